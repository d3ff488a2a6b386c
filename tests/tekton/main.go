// Command tekton asks Tekton itself whether a cluster would take the documents in a folder: a strict decode,
// the webhook's SetDefaults then Validate, and what the controller checks before the first pod. Referenced
// Tasks are put in line, as Pipelines-as-Code does. It prints one line per fault and exits 1 if there is one.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	runs "github.com/tektoncd/pipeline/pkg/reconciler/pipelinerun/resources"
	"github.com/tektoncd/pipeline/pkg/reconciler/taskrun"
	"github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/workspace"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"
)

var (
	ctx          = context.Background()
	tasks        = map[string]*v1.Task{}
	pipelineRuns = map[string]*v1.PipelineRun{}
	faults       = 0
)

func report(where string, errs ...error) {
	for _, err := range errs {
		if err != nil {
			fmt.Printf("%s: %v\n", where, err)
			faults++
		}
	}
}

// webhook does to an object what the cluster's two webhooks do: defaults first, or a time limit is compared
// with none.
func webhook[T interface {
	apis.Defaultable
	apis.Validatable
}](where string, object T) {
	object.SetDefaults(ctx)
	if err := object.Validate(ctx); err != nil {
		report(where, err)
	}
}

// keep decodes a document, refusing fields and keys it does not know, and files the object under its name.
func keep[T metav1.Object](path, doc string, object T, into map[string]T) {
	report(path, yaml.UnmarshalStrict([]byte(doc), object))
	if object.GetName() == "" && object.GetGenerateName() != "" {
		object.SetName(object.GetGenerateName() + "x7k2p") // as the API server does before it asks a webhook
	}
	into[object.GetName()] = object
}

func read(path string) {
	text, err := os.ReadFile(path)
	report(path, err)
	for _, doc := range regexp.MustCompile(`(?m)^---\s*$`).Split(string(text), -1) {
		var head metav1.TypeMeta
		report(path, yaml.Unmarshal([]byte(doc), &head))
		switch head.APIVersion + " " + head.Kind {
		case "tekton.dev/v1 Task":
			keep(path, doc, &v1.Task{}, tasks)
		case "tekton.dev/v1 PipelineRun":
			keep(path, doc, &v1.PipelineRun{}, pipelineRuns)
		default:
			report(path, fmt.Errorf("neither a Task nor a PipelineRun of tekton.dev/v1: %q %q",
				head.APIVersion, head.Kind))
		}
	}
}

// check puts the named Tasks in line, then repeats the controller's checks, which see run, pipeline and Tasks
// together.
func check(where string, run *v1.PipelineRun) {
	if run.Spec.PipelineSpec == nil {
		run.Spec.PipelineSpec = &v1.PipelineSpec{} // which the webhook refuses
	}
	spec, state, bound := run.Spec.PipelineSpec, runs.PipelineRunState{}, map[string]v1.WorkspaceBinding{}
	for _, w := range run.Spec.Workspaces {
		bound[w.Name] = w
	}
	for _, list := range [][]v1.PipelineTask{spec.Tasks, spec.Finally} {
		for i := range list {
			task, bindings := &list[i], []v1.WorkspaceBinding{}
			if task.TaskRef != nil && tasks[task.TaskRef.Name] != nil {
				task.TaskSpec, task.TaskRef = &v1.EmbeddedTask{TaskSpec: *tasks[task.TaskRef.Name].Spec.DeepCopy()}, nil
			}
			if task.TaskSpec == nil {
				report(where, fmt.Errorf("task %q names no Task that is here", task.Name))
				continue
			}
			task.TaskSpec.TaskSpec.SetDefaults(ctx) // Pipelines-as-Code puts it in line as it was written
			for _, w := range task.Workspaces {
				if binding, ok := bound[cmp.Or(w.Workspace, w.Name)]; ok {
					binding.Name = w.Name
					bindings = append(bindings, binding)
				}
			}
			resolved := &resources.ResolvedTask{TaskName: task.Name, TaskSpec: &task.TaskSpec.TaskSpec}
			state = append(state, &runs.ResolvedPipelineTask{PipelineTask: task, ResolvedTask: resolved})
			report(where+" task "+task.Name, taskrun.ValidateResolvedTask(ctx, task.Params, task.Matrix, resolved),
				workspace.ValidateBindings(ctx, resolved.TaskSpec.Workspaces, bindings),
				workspace.ValidateOnlyOnePVCIsUsed(bindings))
		}
	}
	webhook(where, run)
	// as a Pipeline it inherits no param and no workspace
	webhook(where, &v1.Pipeline{ObjectMeta: run.ObjectMeta, Spec: *spec})
	report(where, runs.ValidateRequiredParametersProvided(&spec.Params, &run.Spec.Params),
		runs.ValidateParamTypesMatching(spec, run),
		runs.ValidateWorkspaceBindings(spec, run), runs.ValidateOptionalWorkspaces(spec.Workspaces, state),
		runs.ValidateTaskRunSpecs(spec, run), runs.ValidatePipelineTaskResults(state),
		runs.ValidatePipelineResults(spec, state))
}

func main() {
	report("folder", filepath.WalkDir(os.Args[1], func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml") {
			read(path)
		}
		return err
	}))
	for name, task := range tasks {
		webhook("Task "+name, task)
	}
	for name, run := range pipelineRuns {
		check("PipelineRun "+name, run)
	}
	fmt.Printf("%d Tasks, %d PipelineRuns, %d faults\n", len(tasks), len(pipelineRuns), faults)
	os.Exit(min(faults, 1))
}
