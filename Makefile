# `make` alone lists the targets. Everything runs in .venv, made from Pipfile.lock by `make setup`, which every target calls.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export BEGAN := $(shell date +%s)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make .venv from the lock (PYTHON=... names a Python 3.11); nothing to do when it is up to date
	@scripts/setup

.PHONY: repro
repro: setup ## run the whole loop: have the data, train, export, score, print the results and the time of each step
	@scripts/repro

.PHONY: joint
joint: setup ## run the loop on the twin and a real car's recording together (params/joint.yaml), as the experiment `joint`
	@scripts/data
	@edgecar data get donkeycar-test-tub
	@dvc exp remove --quiet joint 2>/dev/null || true   # an older one of that name
	dvc exp run --name joint evaluate $$(edgecar params joint)
	dvc repro gate
	@edgecar results

.PHONY: test
test: setup ## test the notebooks, then the rest (under 10 minutes)
	nbdev_test --n_workers 2 --do_print
	python -m pytest -n 2 --durations=10 -m "not slow and not images"

.PHONY: test-slow
test-slow: setup ## the tests that take minutes: environments made from the lock, killed processes, whole loops
	@failed=0; for which in "not timed" timed; do \
	  python -m pytest -n 2 --dist worksteal --durations=10 -m "slow and not images and $$which" || failed=1; \
	done; exit $$failed

.PHONY: test-images
test-images: repro ## images with the real tools: buildah, skopeo, podman, a registry, cosign (installs them when root)
	@scripts/image-tools
	python -m pytest -n 2 --dist loadfile --durations=20 -m images

.PHONY: release-rehearsal
release-rehearsal: setup ## a whole release on this machine: registry, keys, push, sign, verify, policy; needs `edgecar release build`
	@scripts/rehearse

.PHONY: images
images: setup ## build, push to a registry on this machine, sign and verify the images of twin and car (after `make repro`)
	@edgecar release build
	@scripts/rehearse

.PHONY: check
check: setup ## regenerate what is generated (clean notebooks, modules, README) and fail if git sees a difference
	@scripts/regenerate
	@! git status --porcelain -- nbs edgecar README.md | grep '^.[^ ]' || { \
	  echo 'check: these were not what their sources make, and are now -> look at git diff, then git add them' >&2; exit 1; }

.PHONY: lab
lab: setup ## open JupyterLab on this machine only, with a token
	jupyter lab --ip=127.0.0.1

.PHONY: bench
bench: setup ## run every benchmark; the last line of each is its figures as JSON
	@for b in benchmarks/*.py; do echo "== $$b"; python $$b || exit 1; done

.PHONY: lock
lock: setup ## pin the newest versions that Pipfile and deploy/Pipfile allow
	@scripts/lock
