# `make` alone lists the targets. Everything runs in .venv, which `make setup` makes from Pipfile.lock; every
# target calls that first.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export BEGAN := $(shell date +%s)

# made from something else by scripts/regenerate
MADE := nbs edgecar README.md dvc.yaml params.yaml .tekton/pull-request.yaml _toc.yml

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv from the lock (PYTHON=... names a Python 3.11); nothing to do when it is up to date
	@scripts/setup

.PHONY: repro
repro: setup ## run the whole loop: data, train, export, drive, judge; print the results and the times
	@scripts/repro

.PHONY: joint
joint: setup ## run the loop on the twin and a real car's recording together, by params/joint.yaml
	@scripts/data
	@edgecar data get donkeycar-test-tub
	@dvc exp remove --quiet joint 2>/dev/null || true   # an older one of that name
	dvc exp run --name joint evaluate $$(edgecar params joint)
	dvc repro gate
	@edgecar results

.PHONY: test
test: setup ## test the notebooks, then the rest (under 10 minutes)
	nbdev_test --n_workers 3 --do_print --skip_folder_re '^([_.]|guides$$)'  # test-slow executes guides
	python -m pytest -n 4 --durations=10 \
		-m "not slow and not images and not platform and not cluster and not scale and not book \
		and not workbench"

.PHONY: test-slow
test-slow: setup ## the tests that take minutes: environments, killed processes, whole loops
	@failed=0; \
	python -m pytest -n 2 --dist worksteal --durations=10 -m "slow and not images and not timed" || failed=1; \
	python -m pytest --durations=10 -m "slow and not images and timed" || failed=1; exit $$failed

.PHONY: test-images
test-images: repro ## images with the real tools (installs them when root)
	@scripts/image-tools
	python -m pytest -n 2 --dist loadfile --durations=20 -m images

.PHONY: test-platform
test-platform: setup ## would a cluster take deploy/ and .tekton/? its own code says (Go builds that first)
	python -m pytest --durations=5 -m platform

.PHONY: test-cluster
test-cluster: setup ## does deploy/ run on a control plane of this machine? as root (Go builds it first)
	@scripts/image-tools
	@scripts/cluster >/dev/null
	@scripts/steps >/dev/null
	python -m pytest --durations=0 --durations-min=1 -m cluster

.PHONY: test-scale
test-scale: setup ## jobs on Ray, nodes lost; a sweep; deploy/ray for KubeRay (installs Ray)
	@scripts/scale-tools
	python -m pytest --durations=10 -m scale

.PHONY: test-workbench
test-workbench: setup ## the workbench's image under a real JupyterHub, in Chromium; as root (builds it first)
	@scripts/workbench >/dev/null
	@scripts/hub-tools >/dev/null
	python -m pytest -s --durations=10 -m workbench

.PHONY: release-rehearsal
release-rehearsal: setup ## a whole release on this machine, after `edgecar release build`
	@scripts/rehearse

.PHONY: images
images: setup ## build the images, push them to a registry on this machine, sign, verify
	@edgecar release build
	@scripts/rehearse

.PHONY: check
check: setup ## regenerate what is made from something else, fail on a difference; then the linters
	@scripts/regenerate
	@! git status --porcelain -- $(MADE) | grep '^.[^ ]' || { \
	  echo 'check: these were not what their sources make -> look at git diff, then git add them' >&2; \
	  exit 1; }
	@ruff check --quiet .
	@said=$$(lint-imports) || { echo "$$said" >&2; exit 1; }
	@git ls-files -z | grep -zv '\.ipynb$$\|go\.sum$$' | xargs -0 codespell

.PHONY: lab
lab: setup ## open JupyterLab on this machine only, with a token
	jupyter lab --ip=127.0.0.1

.PHONY: bench
bench: setup ## run every benchmark; keep the last line of each, its figures as JSON, in benchmarks/results
	@scripts/bench

.PHONY: book
book: setup ## build the book into _build/html; a warning fails it
	@scripts/book

.PHONY: book-check
book-check: setup ## look for dead links, silent pictures and warnings in the book; take pictures of its pages
	python -m pytest --durations=3 -m book

.PHONY: lock
lock: setup ## pin the newest versions that Pipfile and deploy/Pipfile allow
	@scripts/lock
