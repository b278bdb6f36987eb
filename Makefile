# make help says what the targets do. Everything built lands in build/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BUILD := build
TOOLS := $(BUILD)/tools
GO ?= go
GOFLAGS_STATIC := -trimpath -ldflags='-s -w'
export CGO_ENABLED := 0
# The time of the last commit stands in what is built: the same sources give the
# same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --pretty=%ct 2>/dev/null)
export SOURCE_DATE_EPOCH

# What the lab and the images are made of, as Debian trixie has it: QEMU 10,
# firmware, iPXE, and the kernel that server and virtual machine share.
TOOLS_PACKAGES := linux-image-amd64,qemu-system-x86,ovmf,ipxe,ipxe-qemu,seabios,pci.ids
# What is installed on this machine, and the command of each that is looked for.
HOST_PACKAGES := mmdebstrap debian-archive-keyring squashfs-tools make git ca-certificates ipmitool
KEYRING := /usr/share/keyrings/debian-archive-keyring.gpg
# A mirror of your own: make MIRROR=http://mirror.example/debian
MIRROR ?=
# A plain user unpacks without namespaces; mmdebstrap refuses that to root.
EXTRACT_MODE := $(if $(filter 0,$(shell id -u)),root,chrootless)
FUZZTIME ?= 10s
# Labs of other names run beside it.
LAB ?= default

RELEASED := ingot ingot-agent vmlinuz initramfs.cpio.zst

TREES := hardware images boot fleet agent qemu-tests
GO_SOURCES := $(shell find $(TREES) -name '*.go' -not -name '*_test.go' 2>/dev/null) go.mod go.sum

.PHONY: help deps build image stack lab e2e luck test check lint bench release fuzz golden clean

help: ## what can be made
	@awk -F':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install the packages that are needed (root), or print the line that does
	@bad=""; missing=""; \
	if [ "$$(uname -s) $$(uname -m)" != "Linux x86_64" ]; then \
	  echo "This machine is $$(uname -s) on $$(uname -m): take one, or a virtual machine, with Linux on x86_64."; exit 1; \
	fi; \
	command -v mmdebstrap >/dev/null || missing="$$missing mmdebstrap"; \
	command -v sqfstar >/dev/null || missing="$$missing sqfstar"; \
	[ -e $(KEYRING) ] || missing="$$missing $(KEYRING)"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(HOST_PACKAGES) >/dev/null || bad=1; \
	elif [ -n "$$missing" ]; then \
	  echo "Missing:$$missing. On Debian or Ubuntu run this, then make again:"; \
	  echo "  sudo apt-get install -y --no-install-recommends $(HOST_PACKAGES)"; bad=1; \
	fi; \
	if ! command -v $(GO) >/dev/null; then \
	  echo "Missing: $(GO). Install Go 1.26 or later (https://go.dev/doc/install), then: export PATH=\$$PATH:/usr/local/go/bin"; bad=1; \
	elif ! said=$$($(GO) list -m 2>&1); then \
	  echo "$$($(GO) env GOVERSION 2>/dev/null || echo This Go) does not read go.mod: install Go 1.26 or later (https://go.dev/doc/install). It says: $$said"; bad=1; \
	fi; \
	[ -z "$$bad" ]

$(TOOLS)/.stamp: Makefile | deps
	@echo "tools: Debian trixie packages into $(TOOLS)"
	@rm -rf $(TOOLS) $(TOOLS).tmp; mkdir -p $(BUILD)
	@mmdebstrap --mode=$(EXTRACT_MODE) --variant=extract --keyring=$(KEYRING) --include=$(TOOLS_PACKAGES) trixie $(TOOLS).tmp $(MIRROR) 2>$(TOOLS).log || \
	  { tail -n 20 $(TOOLS).log; echo "tools: Debian trixie was not unpacked, for what stands above. Name another mirror with: make MIRROR=http://MIRROR/debian"; exit 1; }
	@rm $(TOOLS).log
	@mv $(TOOLS).tmp $(TOOLS) && touch $@

$(BUILD)/ingot: $(GO_SOURCES)
	@mkdir -p $(BUILD)
	$(GO) build $(GOFLAGS_STATIC) -o $@ ./fleet/cmd/ingot

$(BUILD)/ingot-agent: $(GO_SOURCES)
	@mkdir -p $(BUILD)
	$(GO) build $(GOFLAGS_STATIC) -o $@ ./agent/cmd/ingot-agent

build: $(BUILD)/ingot $(BUILD)/ingot-agent ## build/ingot and build/ingot-agent

$(BUILD)/agent/.stamp: $(BUILD)/ingot $(BUILD)/ingot-agent $(TOOLS)/.stamp
	$(BUILD)/ingot image build --tools $(TOOLS) --agent $(BUILD)/ingot-agent --out $(BUILD)/agent
	@touch $@

image: $(BUILD)/agent/.stamp ## build/agent/vmlinuz and initramfs.cpio.zst

$(BUILD)/stacks/.stamp: $(BUILD)/ingot $(BUILD)/ingot-agent $(TOOLS)/.stamp
	$(BUILD)/ingot stack build --tools $(TOOLS) --agent $(BUILD)/ingot-agent --cache $(BUILD)/cache --keys $(BUILD)/keys --mirror "$(MIRROR)" --lab --out $(BUILD)/stacks
	@touch $@

stack: $(BUILD)/stacks/.stamp ## the signed stack in build/stacks

lab: build image stack ## the main job: a rack of two servers, from power button to service; stays up
	$(BUILD)/ingot lab up --lab $(LAB) --build $(BUILD) --run hello

e2e: build image stack ## the main job as a check; writes build/e2e/result.json
	$(GO) run ./qemu-tests/cmd/e2e

test: lint build image stack ## everything: lint, all tests, the main job
	$(GO) test -timeout 20m $$($(GO) list ./... | grep -v /qemu-tests)
	$(GO) test -timeout 30m -p 1 ./qemu-tests/...
	$(MAKE) e2e
	$(GO) run ./qemu-tests/cmd/e2e --bus cluster --policy approve --no-breaking --out $(BUILD)/e2e-cluster

luck: build image stack ## power cuts, and ingot serve killed, in every phase of a boot
	$(GO) run ./qemu-tests/cmd/e2e --bad-luck --out $(BUILD)/e2e-luck

check: lint ## gofmt, vet, staticcheck, house rules, short tests: under two minutes
	$(GO) test -short ./...
	@$(GO) test -count=1 -run '^TestBudgets$$' -v ./qemu-tests | sed -n 's/.*budget: /  /p'

lint: deps
	@test -z "$$(gofmt -l $(TREES))" || { gofmt -l $(TREES); echo "run: gofmt -w on the files above"; exit 1; }
	$(GO) vet ./... $$(find */testdata -name main.go -printf "./%h ")
	$(GO) tool staticcheck ./...

# The peer of the boot server; this machine's own is taken where it has one.
$(BUILD)/peers/.stamp: | deps
	@rm -rf $(BUILD)/peers $(BUILD)/peers.tmp
	@command -v nginx >/dev/null || mmdebstrap --quiet --mode=$(EXTRACT_MODE) --variant=extract --include=nginx trixie $(BUILD)/peers.tmp
	@mkdir -p $(BUILD)/peers.tmp && mv $(BUILD)/peers.tmp $(BUILD)/peers && touch $@

bench: build image stack $(BUILD)/peers/.stamp ## figures beside floors and peers, into README.md; BENCH="-only bus" takes some
	$(GO) run ./qemu-tests/cmd/bench $(BENCH)

release: build image ## build/release: programs, image, bill of materials, checksums; the same bytes every time
	@rm -rf $(BUILD)/release && mkdir -p $(BUILD)/release
	@cp $(BUILD)/ingot $(BUILD)/ingot-agent $(BUILD)/agent/vmlinuz $(BUILD)/agent/initramfs.cpio.zst $(BUILD)/release/
	@cd $(BUILD)/release && $(GO) -C $(CURDIR) run ./images/cmd/sbom --tools $(TOOLS) --out $(BUILD)/release/sbom.cdx.json $(RELEASED:%=$(BUILD)/release/%)
	@cd $(BUILD)/release && sha256sum $(RELEASED) sbom.cdx.json | tee SHA256SUMS

fuzz: ## every fuzz target for FUZZTIME (default 10s) each
	@$(GO) list -f '{{$$d := .Dir}}{{range .TestGoFiles}}{{$$d}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$d}}/{{.}}{{"\n"}}{{end}}' ./... | grep . | xargs grep -l '^func Fuzz' | while read -r f; do \
	  grep -o '^func Fuzz[A-Za-z0-9_]*' $$f | sed 's/func //' | while read -r t; do \
	    echo "fuzz $$t ($$(dirname $$f | sed "s|$$PWD/||"))"; \
	    $(GO) test -run '^$$' -fuzz "^$$t$$" -fuzztime $(FUZZTIME) $$(dirname $$f) </dev/null; \
	  done; done

golden: ## write the golden files anew
	@for p in $$(grep -rl --include='*_test.go' 'flag.Bool("update"' $(TREES) | xargs -n1 dirname | sort -u); do $(GO) test ./$$p -update; done

clean: ## remove build/, except for the keys
	@find $(BUILD) -mindepth 1 -maxdepth 1 -not -name keys -exec rm -rf {} + 2>/dev/null || true
