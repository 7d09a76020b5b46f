# What a contributor and .ci/run call. Tools are built at the versions below,
# from source, into TOOLS; nothing is downloaded as a binary.

GO    ?= go
TOOLS ?= $(CURDIR)/.tools

PROTOC_GEN_GO      := v1.36.12
PROTOC_GEN_GO_GRPC := v1.6.2
GOLANGCI_LINT      := v2.15.0

# The race detector pays where goroutines share state: not for scripts of whole
# processes and not for the benchmark.
RACE ?= $(shell $(GO) list ./... | grep -vE '/(cmd|test|bench|web)(/|$$)')

# The packages that talk to other projects' programs.
INTEROP ?= $(addprefix ./,$(sort $(dir $(shell git grep -l '^//go:build interop' -- '*_test.go' ':!test/interop'))))

.DEFAULT_GOAL := build
.PHONY: build test race vet fmt-check tidy-check lint generate generate-check interop-programs interop \
	bench failover dev-smoke clean

build: ## bin/conclave
	$(GO) build -trimpath -o bin/conclave ./cmd/conclave

test: ## everything that needs nothing but Go
	$(GO) test ./...

race:
	$(GO) test -race $(RACE)

vet:
	$(GO) vet ./...
	$(GO) vet -tags interop ./...

fmt-check:
	@out=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$out" ]; then echo "gofmt these files:"; echo "$$out"; exit 1; fi

tidy-check:
	$(GO) mod tidy -diff
	cd test/interop && $(GO) mod tidy -diff

# A tool's file name carries its version, so that a new version builds anew.
$(TOOLS)/golangci-lint-$(GOLANGCI_LINT):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	mv $(TOOLS)/golangci-lint $@

$(TOOLS)/pb-$(PROTOC_GEN_GO)-$(PROTOC_GEN_GO_GRPC)/protoc-gen-go:
	GOBIN=$(@D) $(GO) install google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GO_GRPC)
	GOBIN=$(@D) $(GO) install google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO)

lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT)
	$< run --allow-parallel-runners ./...

PLUGINS := $(TOOLS)/pb-$(PROTOC_GEN_GO)-$(PROTOC_GEN_GO_GRPC)
PROTOS  := $(notdir $(wildcard internal/conclavepb/*.proto))

# generate_into DIR: the Go code of internal/conclavepb's messages. Services
# give a second file; protoc itself is Debian's protobuf-compiler.
generate_into = cd internal/conclavepb && PATH=$(PLUGINS):$$PATH protoc \
	--go_out=$(1) --go_opt=paths=source_relative \
	--go-grpc_out=$(1) --go-grpc_opt=paths=source_relative $(PROTOS)

generate: $(PLUGINS)/protoc-gen-go ## internal/conclavepb/*.pb.go
	$(call generate_into,.)

# The header names the protoc that ran, which differs between machines.
generate-check: $(PLUGINS)/protoc-gen-go
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && ( $(call generate_into,$$dir) ) && \
	for f in "$$dir"/*.pb.go internal/conclavepb/*.pb.go; do \
		diff -u -I '^// .*protoc  *v' internal/conclavepb/$${f##*/} "$$dir"/$${f##*/} || \
			{ echo "$${f##*/} is not what its .proto gives: run make generate"; exit 1; }; \
	done

interop-programs: ## real etcd, etcdctl, etcdutl in bin/interop
	test/interop/build.sh

# The programs of other projects that the interop tests talk to.
interop: interop-programs
	.ci/install bind9 bind9-dnsutils openssl curl iproute2
	$(if $(INTEROP),$(GO) test -tags interop -count=1 $(INTEROP),@echo 'no package has interop tests')

bench: interop-programs build
	$(GO) run ./bench run

failover: interop-programs build
	$(GO) run ./bench failover

dev-smoke: ## the README's first command, by a script
	test/dev-smoke.sh

clean:
	rm -rf bin .tools
