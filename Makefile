# Two commands do everything on a machine that has only Go and make:
#   make run    builds bin/lictor and starts an encrypted -dev agent
#   make test   runs every test, under the race detector

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DATE    ?= $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS  = -X lictor/version.Revision=$(VERSION) -X lictor/version.BuildDate=$(DATE)
# A count of inputs and not a time: up to Go 1.26 the end of a time can fail a target
# for nothing (golang.org/issue/75804).
FUZZTIME ?= 100000x

.PHONY: all run build release test short bench chaos lint fuzz cross clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/lictor .

# release is build without symbols: the binary whose size docs/benchmarks.md gives.
release:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w $(LDFLAGS)' -o bin/lictor .

run: build
	./bin/lictor agent -dev

# The fuzz targets' seeds run as tests; fuzz runs each target for some seconds besides.
test:
	$(GO) test -race -timeout 9m ./...
	$(MAKE) --no-print-directory fuzz FUZZTIME=15000x

short:
	$(GO) test ./agent/... ./command/... ./gossip/... ./rpc/... ./tlsutil/...

bench:
	$(GO) run ./test/bench

# A long run of the fault tests; make test has a short one of them.
FAULTS ?= 200

chaos:
	$(GO) test -race -timeout 4h -v ./test/chaos -faults $(FAULTS)

lint:
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	 if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

# Every fuzz target of every package, one after the other.
fuzz:
	@$(GO) list -f '{{.Dir}}{{range .TestGoFiles}} {{.}}{{end}}{{range .XTestGoFiles}} {{.}}{{end}}' ./... | \
	while read -r dir files; do \
	  for f in $$files; do \
	    for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$dir/$$f"); do \
	      (cd "$$dir" && $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .) || exit 1; \
	    done; \
	  done; \
	done

cross:
	@for os in linux darwin freebsd windows; do \
	  echo "build $$os/amd64"; GOOS=$$os GOARCH=amd64 CGO_ENABLED=0 $(GO) build -o /dev/null . || exit 1; \
	  GOOS=$$os GOARCH=amd64 CGO_ENABLED=0 $(GO) vet ./agent/... ./command/... ./gossip/... ./rpc/... ./tlsutil/... || exit 1; \
	done

clean:
	rm -rf bin
