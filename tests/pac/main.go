// Command pac asks Pipelines-as-Code itself what an event starts: it fills in a folder of pipelines, puts the
// Tasks in line and matches the annotations, without a cluster. It prints the runs that would be created, and
// exits 1 when there are none, or when something is wrong with them.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/openshift-pipelines/pipelines-as-code/pkg/apis/pipelinesascode/v1alpha1"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/customparams"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/events"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/matcher"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/params"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/params/info"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/params/triggertype"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/provider/github"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/resolve"
	"github.com/openshift-pipelines/pipelines-as-code/pkg/templates"
	"go.uber.org/zap"
	"sigs.k8s.io/yaml"
)

func stop(say ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"pac:"}, say...)...)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		stop(err)
	}
}

// pipelines puts all documents of a folder into one text, as they come from a repository.
func pipelines(folder string) string {
	text := ""
	check(filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && (ext == ".yaml" || ext == ".yml") {
			doc, err := os.ReadFile(path)
			text += "---\n" + string(doc) + "\n"
			return err
		}
		return err
	}))
	return text
}

// event is what a webhook of GitHub's becomes; a push names its branch or tag in full.
func event(kind, branch, fork string) *info.Event {
	e := info.NewEvent()
	e.EventType, e.TriggerTarget = kind, triggertype.Trigger(kind)
	e.SHA, e.Organization, e.Repository, e.Sender = strings.Repeat("5eed", 10), "Club", "EdgeCar", "Someone"
	e.URL, e.BaseURL = "https://git.example/club/edgecar", "https://git.example/club/edgecar"
	e.HeadURL, e.BaseBranch, e.HeadBranch = e.URL, branch, branch
	if kind == "pull_request" {
		e.HeadBranch, e.PullRequestNumber = "change", 7
	}
	if fork != "" {
		e.HeadURL = fork
	}
	return e
}

func main() {
	kind := flag.String("event", "push", "push or pull_request")
	branch := flag.String("branch", "refs/heads/main", "refs/tags/v1.2.3, or the branch a pull request goes to")
	fork := flag.String("fork", "", "address of another repository, from which the pull request comes")
	flag.Parse()
	ctx, run, provider, log := context.Background(), params.New(), github.New(), zap.NewNop().Sugar()
	provider.SetLogger(log)
	run.Clients.Log = log
	repo, e, emit := &v1alpha1.Repository{}, event(*kind, *branch, *fork), events.NewEventEmitter(nil, log)
	custom := customparams.NewCustomParams(e, repo, run, nil, emit, nil)
	known, files, err := custom.GetParams(ctx)
	check(err)
	known["git_auth_secret"] = "pac-gitauth-secret"
	if e.PullRequestNumber != 0 {
		known["pull_request_number"] = fmt.Sprint(e.PullRequestNumber)
	}
	text := templates.ReplacePlaceHoldersVariables(pipelines(flag.Arg(0)), known, nil, nil, files)
	types, err := resolve.ReadTektonTypes(ctx, log, text)
	check(err)
	for _, wrong := range types.ValidationErrors {
		stop(wrong.Name, wrong.Err)
	}
	runs, err := resolve.Resolve(ctx, run, log, provider, types, e, &resolve.Opts{GenerateName: true})
	check(err)
	matched, err := matcher.MatchPipelinerunByAnnotation(ctx, log, runs, run, e, provider, emit, repo, false)
	check(err)
	for _, m := range matched {
		m.PipelineRun.APIVersion, m.PipelineRun.Kind = "tekton.dev/v1", "PipelineRun"
		doc, err := yaml.Marshal(m.PipelineRun)
		check(err)
		if left := regexp.MustCompile(`\{\{[^}]*\}\}`).Find(doc); left != nil {
			stop(m.PipelineRun.GenerateName, "keeps", string(left), "which nothing fills in")
		}
		fmt.Printf("---\n%s", doc)
	}
}
