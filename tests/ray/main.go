// Command ray asks KubeRay and Kueue themselves about the documents in a file: a strict decode into their Go
// types, KubeRay's own validation, and the Pod Security standard of their pods. It prints one line per fault
// and exits 1 if there is one.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"github.com/ray-project/kuberay/ray-operator/controllers/ray/utils"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	kueue "sigs.k8s.io/kueue/apis/kueue/v1beta2"
	"sigs.k8s.io/yaml"
)

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

// image is what a node pulls: a repository by digest. Anything else could move between head and workers.
var image = regexp.MustCompile(`^[a-z0-9.:/_-]+@sha256:([0-9a-f]{64})$`)

// checkPod holds a pod against the strictest of the Pod Security standards, and wants an image by digest,
// requests and limits, and the token by which Ray lets in only those who know it.
func checkPod(where string, evaluator policy.Evaluator, template *corev1.PodTemplateSpec) {
	level := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	for _, r := range evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
		if !r.Allowed {
			report(where, fmt.Errorf("%s: %s", r.ForbiddenReason, r.ForbiddenDetail))
		}
	}
	if mount := template.Spec.AutomountServiceAccountToken; mount == nil || *mount {
		report(where, errors.New("a service account's token is mounted, which Ray does not need"))
	}
	for _, c := range template.Spec.Containers {
		if found := image.FindStringSubmatch(c.Image); found == nil || strings.Trim(found[1], "0") == "" {
			report(where, fmt.Errorf("%s is not named by a digest", c.Image))
		}
		for _, kind := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[kind], c.Resources.Limits[kind]
			if request.IsZero() || limit.IsZero() || request.Cmp(limit) > 0 {
				report(where, fmt.Errorf("container %s has no %s request within a limit", c.Name, kind))
			}
		}
	}
}

// checkCluster asks KubeRay about a cluster, and looks at every pod of it.
func checkCluster(where string, evaluator policy.Evaluator, spec *rayv1.RayClusterSpec,
	notes map[string]string) {
	report(where, utils.ValidateRayClusterSpec(spec, notes))
	if spec.AuthOptions == nil || spec.AuthOptions.Mode != rayv1.AuthModeToken {
		report(where, errors.New("authOptions.mode is not token: whoever reaches Ray's ports could run code"))
	}
	checkPod(where+" head", evaluator, &spec.HeadGroupSpec.Template)
	for i := range spec.WorkerGroupSpecs {
		group := &spec.WorkerGroupSpecs[i]
		checkPod(where+" "+group.GroupName, evaluator, &group.Template)
	}
}

func checkJob(where string, evaluator policy.Evaluator, job *rayv1.RayJob) {
	report(where, utils.ValidateRayJobMetadata(job.ObjectMeta), utils.ValidateRayJobSpec(job))
	if !job.Spec.ShutdownAfterJobFinishes || job.Spec.TTLSecondsAfterFinished == 0 {
		report(where, errors.New("the cluster would outlive its job: set shutdownAfterJobFinishes and a TTL"))
	}
	if job.Spec.RuntimeEnvYAML != "" {
		report(where, errors.New("runtimeEnvYAML would fetch what the image does not pin"))
	}
	if job.Spec.RayClusterSpec != nil {
		checkCluster(where, evaluator, job.Spec.RayClusterSpec, job.Annotations)
	}
	if job.Spec.SubmitterPodTemplate != nil {
		checkPod(where+" submitter", evaluator, job.Spec.SubmitterPodTemplate)
	}
}

// check decodes a document into the type of its kind; a field that the type lacks is a fault.
func check(where, kind string, doc []byte, evaluator policy.Evaluator) bool {
	into := map[string]any{
		"ray.io/v1 RayJob":                      &rayv1.RayJob{},
		"ray.io/v1 RayCluster":                  &rayv1.RayCluster{},
		"kueue.x-k8s.io/v1beta2 ClusterQueue":   &kueue.ClusterQueue{},
		"kueue.x-k8s.io/v1beta2 LocalQueue":     &kueue.LocalQueue{},
		"kueue.x-k8s.io/v1beta2 ResourceFlavor": &kueue.ResourceFlavor{},
	}[kind]
	if into == nil {
		return false
	}
	if err := yaml.UnmarshalStrict(doc, into); err != nil {
		report(where, err)
		return true
	}
	switch object := into.(type) {
	case *rayv1.RayJob:
		checkJob(where, evaluator, object)
	case *rayv1.RayCluster:
		report(where, utils.ValidateRayClusterMetadata(object.ObjectMeta))
		checkCluster(where, evaluator, &object.Spec, object.Annotations)
	}
	return true
}

func main() {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	fail(err)
	checked := 0
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		fail(err)
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			doc, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			fail(err)
			var meta struct {
				metav1.TypeMeta
				Metadata metav1.ObjectMeta
			}
			fail(yaml.Unmarshal(doc, &meta))
			where := fmt.Sprintf("%s: %s %s", filepath.Base(file), meta.Kind, meta.Metadata.Name)
			if check(where, meta.APIVersion+" "+meta.Kind, doc, evaluator) {
				checked++
			}
		}
	}
	fmt.Printf("%d documents, %d faults\n", checked, faults)
	if faults > 0 {
		os.Exit(1)
	}
}
