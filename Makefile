# What a contributor and .ci/run call. Tools are built at the versions below,
# from source, into TOOLS; nothing is downloaded as a binary.

GO    ?= go
TOOLS ?= $(CURDIR)/.tools

PROTOC_GEN_GO      := v1.36.12
PROTOC_GEN_GO_GRPC := v1.6.2
PROTOC_GEN_GATEWAY := v2.29.0
GOLANGCI_LINT      := v2.15.0

# What takes longest comes first, so that the others run beside it and it does
# not run alone at the end.
LONGEST := ./raftstore ./internal/testcluster ./cmd/conclave

# Tests of clusters wait more than they compute: three packages at once keep two
# processors busy.
PACKAGES_AT_ONCE ?= 3

# The race detector pays where goroutines share state: not for scripts of whole
# processes, not for the benchmark, and not where the tests start no goroutine.
RACE ?= $(shell $(GO) list $(LONGEST) ./... | grep -vE '/(cmd|test|bench|web|internal/floorplan|pki/ledger)(/|$$)')

# Modules of their own, for what conclave must not depend on.
NESTED := test/interop test/kvdiff test/faultfs test/snapshots/etcd-3.5 test/snapshots/etcd-3.6

# The tests that talk to other projects' programs: their files, packages and
# names. The other tests of these packages are not repeated.
interop_files = $(shell git grep -l '^//go:build interop' -- '*_test.go' $(NESTED:%=':!%'))
interop_tests = $(shell grep -ohE '^func Test[A-Z][A-Za-z0-9_]*' $(interop_files) /dev/null | cut -c6- | paste -sd'|')
INTEROP ?= ./test/cluster $(addprefix ./,$(sort $(dir $(interop_files))))
# Tests of whole processes wait more than they compute.
INTEROP_PARALLEL ?= 4

# Clusters simulated under faults, from the seed FIRST on.
SCHEDULES ?= 100000
FIRST     ?= 10000

# Rounds of partition and heal, each with a seed of its own.
PARTITION_ROUNDS ?= 100
KILL_ROUNDS ?= 200
HISTORIES ?= 50
BENCH_ROUNDS ?= 5

# What is measured with mutual TLS.
MTLS_LOADS ?= put-100,put-1000,get-1,get-1000

.DEFAULT_GOAL := build
.PHONY: build test race race-build simulation partitions vet fmt-check tidy-check lint linter generate generate-check \
	interop-programs interop snapshots kvdiff faultfs bench failover dev-smoke clean kills histories

build: ## bin/conclave
	$(GO) build -trimpath -o bin/conclave ./cmd/conclave

test: ## everything that needs nothing but Go
	$(GO) test -p $(PACKAGES_AT_ONCE) $(LONGEST) ./...

race: ## the same with the race detector; -short leaves out repetitions
	$(GO) test -p $(PACKAGES_AT_ONCE) -race -short $(RACE)

race-build: ## what race runs, compiled into the build cache
	$(GO) list -race -deps -test -export $(RACE) >/dev/null

simulation: ## consensus in fake time under many schedules of faults; about 1,500 a minute on two cores
	$(GO) test ./raftstore -count=1 -timeout 0 -run '^TestSimulation$$' -schedules $(SCHEDULES) -first $(FIRST)

partitions: ## no stale read, no loss, in many rounds of partition and heal
	$(GO) test ./internal/testcluster -count=1 -run '^TestCluster_partitionRounds$$' -rounds $(PARTITION_ROUNDS)

kills: interop-programs ## no loss in many kill -9 amid batches, commits, compactions and defragmentations
	$(GO) test -tags interop ./test/cluster -count=1 -timeout 0 -v -run '^TestStages_killedInTheMiddle$$' -rounds $(KILL_ROUNDS)

histories: ## events on all members, in many histories with all kinds of faults, of whole processes
	$(GO) test -tags interop ./test/cluster -count=1 -timeout 0 -v -run '^TestHistory_sameOnAllProcesses$$' -histories $(HISTORIES)

vet:
	$(GO) vet -tags interop ./...
	cd test/kvdiff && $(GO) vet ./...
	cd test/faultfs && $(GO) vet ./...

fmt-check:
	@out=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$out" ]; then echo "gofmt these files:"; echo "$$out"; exit 1; fi

tidy-check:
	$(GO) mod tidy -diff
	for module in $(NESTED); do ( cd $$module && $(GO) mod tidy -diff ) || exit; done

# A tool's file name carries its version, so that a new version builds anew.
$(TOOLS)/golangci-lint-$(GOLANGCI_LINT):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	mv $(TOOLS)/golangci-lint $@

PLUGINS := $(TOOLS)/pb-$(PROTOC_GEN_GO)-$(PROTOC_GEN_GO_GRPC)-$(PROTOC_GEN_GATEWAY)

$(PLUGINS)/protoc-gen-go:
	GOBIN=$(@D) $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC)
	GOBIN=$(@D) $(GO) install github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway@$(PROTOC_GEN_GATEWAY)
	GOBIN=$(@D) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO)

linter: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT)

lint: linter ## go vet's checks and more
	$(TOOLS)/golangci-lint-$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd test/kvdiff && $(TOOLS)/golangci-lint-$(GOLANGCI_LINT) run --allow-parallel-runners ./...
	cd test/faultfs && $(TOOLS)/golangci-lint-$(GOLANGCI_LINT) run --allow-parallel-runners ./...

# Packages of messages, and the modules whose .proto files theirs import.
PB_DIRS := internal/conclavepb internal/lockpb
GOOGLEAPIS := github.com/grpc-ecosystem/grpc-gateway@v1.16.0
module = $$($(GO) mod download -json $(1) | sed -n 's/^\t"Dir": "\(.*\)",/\1/p')

# generate_into DIR: the Go code of the messages in PB_DIRS, below DIR. Services
# give a second file, JSON routes a third; protoc itself is Debian's
# protobuf-compiler.
generate_into = for d in $(PB_DIRS); do mkdir -p $(1)/$$d && PATH=$(PLUGINS):$$PATH protoc -I $$d \
	-I etcd/api=$(call module,go.etcd.io/etcd/api/v3) -I $(call module,github.com/grpc-ecosystem/grpc-gateway/v2) \
	-I $(call module,$(GOOGLEAPIS))/third_party/googleapis \
	--go_out=$(1)/$$d --go_opt=paths=source_relative \
	--go-grpc_out=$(1)/$$d --go-grpc_opt=paths=source_relative \
	--grpc-gateway_out=$(1)/$$d --grpc-gateway_opt=paths=source_relative $$d/*.proto || exit; done

generate: $(PLUGINS)/protoc-gen-go ## *.pb.go of PB_DIRS
	$(call generate_into,.)

# The header names the protoc that ran, which differs between machines.
generate-check: $(PLUGINS)/protoc-gen-go
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && ( $(call generate_into,$$dir) ) && \
	for d in $(PB_DIRS); do for f in "$$dir"/$$d/*.pb*.go $$d/*.pb*.go; do \
		diff -u -I '^// .*protoc  *v' $$d/$${f##*/} "$$dir"/$$d/$${f##*/} || \
			{ echo "$$d/$${f##*/} is not what its .proto gives: run make generate"; exit 1; }; \
	done; done

interop-programs: ## real etcd, etcdctl, etcdutl in bin/interop
	test/interop/build.sh

# The programs of other projects that the interop tests talk to.
interop: interop-programs kvdiff faultfs
	.ci/install bind9 bind9-dnsutils knot openssl curl iproute2 procps
	$(GO) test -tags interop -count=1 -timeout 20m -parallel $(INTEROP_PARALLEL) -run '^($(interop_tests))$$' $(INTEROP)

snapshots: interop-programs ## snapshots of real etcd 3.4 to 3.7, and what those say of them, anew; on Debian 12
	test/snapshots/build.sh
	$(GO) test -tags interop ./test/snapshots -count=1 -run '^TestRecord_history$$' -record

kvdiff: ## kv and etcd's own store answer alike
	cd test/kvdiff && $(GO) test ./...

faultfs: ## the disk of the disk tests does what it says; needs root and /dev/fuse
	cd test/faultfs && $(GO) test ./...

bench: interop-programs build ## keys against etcd: rates, mutual TLS, a million keys; about forty minutes
	$(GO) run ./bench run -rounds $(BENCH_ROUNDS)
	$(GO) run ./bench run -rounds $(BENCH_ROUNDS) -mtls -loads $(MTLS_LOADS)
	$(GO) run ./bench run -rounds $(BENCH_ROUNDS) -mtls-only conclave -systems etcd,conclave -loads $(MTLS_LOADS)
	$(GO) run ./bench large -rounds $(BENCH_ROUNDS)

failover: interop-programs build
	$(GO) run ./bench failover

dev-smoke: ## the README's first command, by a script
	test/dev-smoke.sh

clean:
	rm -rf bin .tools
