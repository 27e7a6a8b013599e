# Everything a developer of berth does, by name. "make" lists it.

GO          ?= go
VERSION     ?= $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null || echo dev))
LDFLAGS     := -s -w -X main.version=$(VERSION)
TOOLS       := $(CURDIR)/build/tools
GOLANGCI    := $(TOOLS)/golangci-lint@v2.15.0
GOVULNCHECK := $(TOOLS)/govulncheck@v1.9.0
BUF         := $(TOOLS)/buf@v1.75.0
DEADCODE    := $(TOOLS)/deadcode@v0.52.0
ACTIONLINT  := $(TOOLS)/actionlint@v1.7.12
CROSSVET    := $(TOOLS)/crossvet
# Without tables for debuggers a test's program is linked in half the time. A compiler
# ends before its garbage matters, and to collect it is a quarter of its work.
# "make vet" is what vets.
TEST        := $(GO) run ./internal/testreport $(AGAIN) -toolexec='env GOGC=400' -ldflags=-s -vet=off
DISTFLAGS   := -trimpath -buildvcs=false -gcflags=all=-dwarf=false
CROSS       := darwin/arm64 windows/amd64
FUZZTIME    ?= 20s
BENCH       ?= .
BENCH_ONLY  ?=
LICENSES    := internal/licenses/THIRD_PARTY_LICENSES
MAINTAINER  ?=
HOMEPAGE    ?=

export CGO_ENABLED ?= 0

# A tool is built once for each version, free of the caller's GOOS and flags.
install = @echo "building $(@F), once" && mkdir -p $(@D)/new && \
	GOOS= GOARCH= GOFLAGS= CGO_ENABLED=0 GOBIN=$(@D)/new $(GO) install $(1)/$(@F) && \
	mv $(@D)/new/$(firstword $(subst @, ,$(@F))) $@ && rmdir $(@D)/new

$(GOLANGCI): ; $(call install,github.com/golangci/golangci-lint/v2/cmd)
$(GOVULNCHECK): ; $(call install,golang.org/x/vuln/cmd)
$(BUF): ; $(call install,github.com/bufbuild/buf/cmd)
$(DEADCODE): ; $(call install,golang.org/x/tools/cmd)
$(ACTIONLINT): ; $(call install,github.com/rhysd/actionlint/cmd)
$(CROSSVET): packaging/crossvet/main.go packaging/crossvet/go.mod
	@cd packaging/crossvet && GOOS= GOARCH= $(GO) build -o $@ .

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/berth
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/berth ./cmd/berth

.PHONY: demo
demo: build ## berth on a simulated cluster with four tunnels, until Ctrl-C; the first build takes minutes
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/berth-demo ./cmd/berth-demo
	@./bin/berth-demo

.PHONY: test-deps
test-deps: ## install the clients and servers the tests drive (root on Debian-like systems), and build kubectl
	@sh packaging/test-deps.sh

.PHONY: test
test: test-deps ## all tests with the race detector
	CGO_ENABLED=1 $(TEST) -race -shuffle=on -timeout=20m ./...

.PHONY: test-whole
test-whole: ## without the race detector, and whole: what only computes, of which "make test" does a part
	$(TEST) -shuffle=on ./agent/install ./internal/replay

.PHONY: test-short
test-short: ## the fast tests only
	$(TEST) -p 4 -parallel 12 -short ./...

.PHONY: cover
cover: test-deps ## how much of each package the tests cover, the least covered first
	@mkdir -p build/cover
	GOCOVERDIR=$(CURDIR)/build/cover $(TEST) -coverpkg=./... -coverprofile=build/cover.out -timeout=20m ./...

.PHONY: e2e
e2e: ## the journeys against real Teleport; BERTH_E2E_TELEPORT_BIN names the folder with teleport, tsh and tctl
	@if [ -z "$$BERTH_E2E_TELEPORT_BIN" ]; then \
		echo "skipped: set BERTH_E2E_TELEPORT_BIN to the folder that holds teleport, tsh and tctl; berth does not bring them along"; \
	else sh packaging/test-deps.sh --e2e && $(GO) test -tags e2e -count=1 -v -timeout 40m ./internal/e2e/...; fi

.PHONY: desktop-test
desktop-test: build ## the tray on a real desktop without a screen; pictures of each step are left in build/desktop
	@sh packaging/desktop-deps.sh
	$(GO) test -tags desktop -count=1 -v -timeout 14m ./internal/desktop

.PHONY: web
web: ## build internal/web/dist, what berth shows in a browser
	@sh packaging/web-deps.sh
	cd internal/web && npm run --silent build

.PHONY: web-check
web-check: ## types and style of internal/web, and fail if dist is not what its sources give
	@sh packaging/web-deps.sh
	@mkdir -p build && cd internal/web && npm run --silent check && npm run --silent build -- ../../build/web.dist/ && \
		diff -r dist ../../build/web.dist >/dev/null || { echo 'internal/web/dist is out of date: run "make web"'; exit 1; }

.PHONY: web-test
web-test: build ## what berth shows in a browser, in a real Chromium and Firefox without a screen; pictures are left in build/web
	@sh packaging/web-deps.sh --browser
	$(GO) test -tags web -count=1 -v -timeout 9m ./internal/webtest

.PHONY: web-pictures
web-pictures: build ## take the window's pictures in docs/images again, from its journeys
	@sh packaging/web-deps.sh --browser
	BERTH_WEBTEST_PICTURES=1 $(GO) test -tags web -count=1 -timeout 9m -run '^TestWindow' ./internal/webtest

.PHONY: wine-test
wine-test: ## berth.exe under Wine 10 or later: on PATH, or BERTH_WINE="chroot FOLDER" with BERTH_WINE_ROOT=FOLDER
	@sh packaging/wine-deps.sh
	$(GO) test -tags wine -count=1 -v -timeout 9m ./internal/winetest

.PHONY: bench
bench: build ## Go benchmarks and the tables of docs/BENCHMARKS.md and docs/PATTERNS.md; BENCH_ONLY=GROUP,… prints these groups alone
	@if [ -z '$(BENCH_ONLY)' ]; then $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./proxies/... ./certwatch/... ./agent/...; fi
	$(GO) run ./internal/bench -berth bin/berth -only '$(BENCH_ONLY)'

.PHONY: bench-page
bench-page: build ## take all tables of docs/BENCHMARKS.md and docs/PATTERNS.md again, and draw the curves; see BERTH_E2E_TELEPORT_BIN
	for group in real far peers growth open stream,connect,swap wake kube tray; do \
	  $(GO) run ./internal/bench -berth bin/berth -only $$group -write docs/BENCHMARKS.md || exit 1; done
	$(GO) run ./internal/bench -berth bin/berth -only patterns -write docs/PATTERNS.md

CHAOS = $(GO) run ./internal/chaos $(if $(SEED),-seed $(SEED))

.PHONY: chaos
chaos: ## an agent with thirty tunnels in bad weather, every answer checked, every loss accounted for: MINUTES=20 SEED=N
	$(CHAOS) -minutes $(or $(MINUTES),20)

.PHONY: soak
soak: ## the same for a night: HOURS=8
	$(CHAOS) -minutes $$(( $(or $(HOURS),8) * 60 ))

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg || exit 1; \
		done; done

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...
	$(GO) vet -tags release ./cmd/berth
	$(GO) vet -tags desktop,wine,e2e,web ./internal/desktop ./internal/winetest/... ./internal/e2e ./internal/webtest

.PHONY: lint
lint: $(GOLANGCI) ## golangci-lint: go vet and staticcheck are among its linters
	$(GOLANGCI) run --allow-parallel-runners ./...

# What only the demo links is larger than the rest, and as good as its library
# on other systems.
ALL_BUT_DEMO = $$($(GO) list ./... | grep -v -e /cmd/berth-demo -e /internal/demo/memsql)

.PHONY: cross
cross: $(CROSSVET) ## vet for the other systems berth runs on, and what is built by tags alone
	GOFLAGS=-tags=release,desktop,wine,e2e,web $(CROSSVET) ./cmd/berth ./internal/desktop ./internal/winetest/... ./internal/e2e/... ./internal/webtest
	@for t in $(CROSS); do echo "== $$t"; GOOS=$${t%/*} GOARCH=$${t#*/} $(CROSSVET) $(ALL_BUT_DEMO) || exit 1; done

.PHONY: actions
actions: $(ACTIONLINT) ## check the workflows of .github
	$(ACTIONLINT) .github/workflows/*.yml

.PHONY: deadcode
deadcode: $(DEADCODE) ## fail on functions that nothing reaches
	@sh packaging/deadcode.sh $(DEADCODE)

# every module that berth links on one of the systems it is built for
LIST_DEPS := for os in linux windows darwin; do GOOS=$$os CGO_ENABLED=0 \
	$(GO) list -deps -f '{{with .Module}}{{.Path}}{{end}}' ./cmd/berth || exit 1; done

.PHONY: deps
deps: ## rewrite cmd/berth/deps.txt, the list of every linked module, and the licences of all
	@{ $(LIST_DEPS); } | LC_ALL=C sort -u > cmd/berth/deps.txt
	@$(GO) run ./packaging/licenses $(LICENSES)

.PHONY: deps-check
deps-check: ## fail if a new dependency slipped in unread
	@{ $(LIST_DEPS); } | LC_ALL=C sort -u | diff -u cmd/berth/deps.txt - \
		|| { echo 'cmd/berth/deps.txt is out of date: read the difference, then run "make deps"'; exit 1; }
	@$(GO) run ./packaging/licenses -check $(LICENSES)

.PHONY: tidy-check
tidy-check: ## fail if go.mod or go.sum would change, or if a module is not what go.sum says
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: proto
proto: $(BUF) ## regenerate the berth.v1 API, and what is compared with Teleport's library
	cd agent/ipc && $(BUF) generate
	cd internal/patterns/direct && $(BUF) generate

.PHONY: docs
docs: ## rewrite the pages of docs/ that are made from the code
	$(GO) test ./cmd/berth ./agent/config ./agent/notices -run '^(TestDocs.*Reference|TestTable)$$' -count=1 -update

.PHONY: docs-check
docs-check: ## fail on a dead link, a command that does not exist, or a made page out of date
	$(GO) test ./internal/doctest ./cmd/berth ./agent/config ./agent/notices -run '^(TestDocs.*|TestTable)$$' -count=1

.PHONY: site
site: ## the documents and the manual as static HTML, searchable and offline, into build/site; fails on a dead link, or where the search misses
	rm -rf build/site.files && mkdir -p build
	$(GO) run -tags release ./cmd/berth release-files build/site.files
	@if command -v man >/dev/null 2>&1; then man=$(CURDIR)/build/site.files/man; else echo "SKIPPED the manual: man is not installed"; fi; \
		cd packaging/site && $(GO) run . -root ../.. -man "$$man"
	@if command -v node >/dev/null 2>&1; then node packaging/site/questions.js build/site; else echo "SKIPPED what visitors ask the search: node is not installed"; fi

.PHONY: module
module: ## give the module another path, so that it can be "go install"ed: MODULE=github.com/OWNER/berth; the way back is MODULE=berth
	@sh packaging/module.sh '$(MODULE)'

.PHONY: test-module
test-module: ## the same in a copy: build, try who imports whom, and back
	@sh packaging/test-module.sh

.PHONY: icons
icons: ## render what the tray shows from packaging/icons
	$(GO) run ./packaging/icons/cmd/render tray/icons

.PHONY: vuln
vuln: $(GOVULNCHECK) ## known vulnerabilities in what is linked; skipped aloud where the database is out of reach
	@sh packaging/vuln.sh $(GOVULNCHECK)

.PHONY: check
check: ## everything that needs no running program
	@echo "check: the modules, a linter, two other systems, dead code, workflows, the documents: 3 minutes, the first time 8"
	@$(MAKE) --no-print-directory tidy-check deps-check lint cross deadcode actions web-check docs-check
	@echo "check: all is well"

.PHONY: dist-deps
dist-deps:
	@sh packaging/dist-deps.sh

OWNER = $(if $(MAINTAINER),-maintainer '$(MAINTAINER)') $(if $(HOMEPAGE),-homepage '$(HOMEPAGE)')

.PHONY: dist
dist: dist-deps ## packages, archives, installer, checksums and SBOMs of every system, into build/dist; MAINTAINER='NAME <ADDRESS>' HOMEPAGE=URL
	cd packaging/dist && $(GO) run $(DISTFLAGS) . -root ../.. $(OWNER)

.PHONY: release
release: dist-deps ## a signed release, into build/dist: VERSION=v1.2.3 MINISIGN_KEY=FILE MAINTAINER='NAME <ADDRESS>' HOMEPAGE=URL
	cd packaging/dist && $(GO) run $(DISTFLAGS) . -root ../.. -release '$(VERSION)' $(OWNER) $(if $(MINISIGN_KEY),-minisign-key '$(MINISIGN_KEY)') \
		$(if $(MINISIGN_PASSWORD),-minisign-password '$(MINISIGN_PASSWORD)') $(if $(DOWNLOADS),-downloads '$(DOWNLOADS)')

.PHONY: verify
verify: ## build a release's file once more and compare, byte for byte: ARTEFACT=FILE, MAINTAINER and HOMEPAGE as in its notes
	cd packaging/dist && $(GO) run $(DISTFLAGS) . -root ../.. -verify '$(abspath $(ARTEFACT))' $(OWNER)

.PHONY: test-packages
test-packages: dist-deps ## build twice and compare, check the packages, install the deb here and remove it (root on Debian-like systems)
	cd packaging/dist && $(GO) vet ./... && $(GO) test ./...
	@sh packaging/test-packages.sh

.PHONY: clean
clean: ## remove what was built
	rm -rf bin build dist
