// Command platform asks Kubernetes itself whether a cluster would take the documents in a file: a strict
// decode, defaults, the API server's own validation and the Pod Security standard of their namespace. Kinds
// of others are held against the CRDs that their projects publish in their Go modules. It prints one line per
// fault and exits 1 if there is one.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	ext "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	extv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/rbac"
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"
	rbacvalidation "k8s.io/kubernetes/pkg/apis/rbac/validation"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// crds says which files of which module hold the schemas, and at which version.
var crds = map[string]string{
	"github.com/argoproj/argo-cd/v3@v3.5.1":         "manifests/crds/*-crd.yaml",
	"github.com/sigstore/policy-controller@v0.15.1": "config/300-clusterimagepolicy.yaml",

	"github.com/openshift/api@v0.0.0-20260710095909-1cb630ce7109": "route/v1/zz_generated.crd-manifests/*.yaml",

	"github.com/prometheus-operator/prometheus-operator@v0.85.0": "example/prometheus-operator-crd/*s.yaml",
}

var faults = 0

func report(where string, errs ...error) {
	for _, err := range errs {
		if err != nil {
			fmt.Printf("%s: %v\n", where, err)
			faults++
		}
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

// image is what a device pulls: a repository by digest. Anything else was never promoted, or could move.
var image = regexp.MustCompile(`^[a-z0-9.:/_-]+@sha256:([0-9a-f]{64})$`)

// Images of pods must be named by a digest that was promoted. `undeployed` says so of an overlay.
func checkImages(where string, spec *corev1.PodSpec, undeployed bool) {
	for _, c := range append(append([]corev1.Container{}, spec.InitContainers...), spec.Containers...) {
		found := image.FindStringSubmatch(c.Image)
		switch {
		case strings.HasSuffix(c.Image, "@undeployed"):
			if !undeployed {
				report(where, fmt.Errorf("%s is undeployed: edgecar release promote writes its digest", c.Image))
			}
		case found == nil || strings.Trim(found[1], "0") == "":
			report(where, fmt.Errorf("%s is not named by a digest", c.Image))
		}
	}
}

// checkPod holds a pod against the strictest of the Pod Security standards.
func checkPod(where string, evaluator policy.Evaluator, meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	level := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(level, meta, spec) {
		if !r.Allowed {
			report(where, fmt.Errorf("%s: %s", r.ForbiddenReason, r.ForbiddenDetail))
		}
	}
}

// validate asks the API server's validation of a built-in kind, after its defaults.
func validate(object runtime.Object) field.ErrorList {
	switch o := object.(type) {
	case *apps.Deployment:
		return appsvalidation.ValidateDeployment(o, corevalidation.PodValidationOptions{})
	case *batch.Job:
		options := batchvalidation.JobValidationOptions{RequirePrefixedLabels: true}
		return batchvalidation.ValidateJobCreate(o, options)
	case *core.Namespace:
		return corevalidation.ValidateNamespace(o)
	case *core.Service:
		return corevalidation.ValidateServiceCreate(o)
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(o)
	case *core.ResourceQuota:
		return corevalidation.ValidateResourceQuota(o)
	case *core.PersistentVolumeClaim:
		options := corevalidation.PersistentVolumeClaimSpecValidationOptions{}
		return corevalidation.ValidatePersistentVolumeClaim(o, options)
	case *networking.NetworkPolicy:
		return networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{})
	case *rbac.Role:
		return rbacvalidation.ValidateRole(o)
	case *rbac.RoleBinding:
		return rbacvalidation.ValidateRoleBinding(o)
	}
	return field.ErrorList{field.NotSupported(field.NewPath("kind"), fmt.Sprintf("%T", object), []string{})}
}

// builtIn decodes a document of Kubernetes' own, and asks everything that an API server would.
func builtIn(where string, doc []byte, evaluator policy.Evaluator, undeployed bool) {
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, legacyscheme.Scheme, legacyscheme.Scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	object, _, err := strict.Decode(doc, nil, nil)
	if err != nil {
		report(where, err)
		return
	}
	var meta *metav1.ObjectMeta
	var spec *corev1.PodSpec
	switch o := object.(type) {
	case *appsv1.Deployment:
		meta, spec = &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	case *batchv1.Job:
		meta, spec = &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	}
	if spec != nil {
		checkImages(where, spec, undeployed)
		checkPod(where, evaluator, meta, spec)
	}
	legacyscheme.Scheme.Default(object)
	internal, err := legacyscheme.Scheme.ConvertToVersion(object, runtime.InternalGroupVersioner)
	if err != nil {
		report(where, err)
		return
	}
	if job, ok := internal.(*batch.Job); ok { // what the server fills in before it validates
		job.UID = "0"
		selectItself(job)
	}
	for _, err := range validate(internal) {
		report(where, err)
	}
}

// selectItself gives a Job the labels and the selector that the server gives it.
func selectItself(job *batch.Job) {
	labels := map[string]string{"batch.kubernetes.io/controller-uid": string(job.UID),
		"batch.kubernetes.io/job-name": job.Name, "controller-uid": string(job.UID), "job-name": job.Name}
	if job.Spec.Template.Labels == nil {
		job.Spec.Template.Labels = map[string]string{}
	}
	for k, v := range labels {
		job.Spec.Template.Labels[k] = v
	}
	job.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{
		"batch.kubernetes.io/controller-uid": string(job.UID)}}
}

type foreign struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
}

// schemas reads the CRDs of the modules, in the module cache.
func schemas() map[string]foreign {
	found := map[string]foreign{}
	for module, pattern := range crds {
		out, err := exec.Command("go", "mod", "download", "-json", module).Output()
		fail(err)
		var at struct{ Dir string }
		fail(yaml.Unmarshal(out, &at))
		files, err := filepath.Glob(filepath.Join(at.Dir, pattern))
		fail(err)
		if len(files) == 0 {
			fail(fmt.Errorf("%s has no %s", module, pattern))
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			fail(err)
			var crd extv1.CustomResourceDefinition
			fail(yaml.Unmarshal(text, &crd))
			for _, version := range crd.Spec.Versions {
				var internal ext.CustomResourceValidation
				fail(extv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(
					version.Schema, &internal, nil))
				validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
				fail(err)
				structural, err := schema.NewStructural(internal.OpenAPIV3Schema)
				fail(err)
				key := crd.Spec.Group + "/" + version.Name + " " + crd.Spec.Names.Kind
				found[key] = foreign{structural, validator}
			}
		}
	}
	return found
}

// check holds a document against its CRD: unknown fields, the schema, and the rules in CEL.
func (f foreign) check(where string, object map[string]any) {
	unknown := pruning.PruneWithOptions(runtime.DeepCopyJSON(object), f.structural, true,
		schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		report(where, fmt.Errorf("unknown field %q", path))
	}
	defaulting.Default(object, f.structural)
	for _, err := range validation.ValidateCustomResource(nil, object, f.validator) {
		report(where, err)
	}
	if rules := cel.NewValidator(f.structural, true, celconfig.PerCallLimit); rules != nil {
		const budget = celconfig.RuntimeCELCostBudget
		errs, _ := rules.Validate(context.Background(), nil, f.structural, object, nil, budget)
		for _, err := range errs {
			report(where, err)
		}
	}
}

func main() {
	undeployed := len(os.Args) > 1 && os.Args[1] == "-undeployed"
	files := os.Args[1:]
	if undeployed {
		files = files[1:]
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	fail(err)
	others, documents := schemas(), 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		fail(err)
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			doc, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			fail(err)
			var object map[string]any
			if err := yaml.UnmarshalStrict(doc, &object); err != nil {
				report(file, err)
				continue
			}
			if object == nil {
				continue
			}
			documents++
			kind := fmt.Sprintf("%v %v", object["apiVersion"], object["kind"])
			meta, _ := object["metadata"].(map[string]any)
			where := fmt.Sprintf("%s: %v %v", filepath.Base(file), object["kind"], meta["name"])
			if f, ok := others[kind]; ok {
				f.check(where, object)
			} else {
				builtIn(where, doc, evaluator, undeployed)
			}
		}
	}
	fmt.Printf("%d documents, %d faults\n", documents, faults)
	if faults > 0 {
		os.Exit(1)
	}
}
