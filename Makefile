# What a newcomer needs: make help. Go is all that must be installed (go.dev/doc/install);
# each verb says what else it looks for.

.DEFAULT_GOAL := help
.PHONY: help build demo demo-clean test conformance lint bench

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/caddy (xcaddy.sh) and bin/regionalsvc
	@./xcaddy.sh
	@go build -o bin/regionalsvc ./regionalsvc

demo: build ## two POPs, two regions, two databases on loopback; DEMO_PORT_BASE=N shifts the ports
	@exec bin/regionalsvc demo

demo-clean: ## forget the demo's data, keys and logs
	@if [ -e .demo/lock ] && command -v flock >/dev/null && ! flock -n .demo/lock true; then \
		echo "a demo runs (pid $$(cat .demo/lock)): end it first" >&2; exit 1; \
	fi
	rm -rf .demo

test: build ## everything, end to end too, against a real PostgreSQL and a real Caddy
	@.ci/need curl postgresql
	go test ./...
	@echo "test: every package passed"

conformance: ## the public tests of HTTP caches against edge_cache (docs/CONFORMANCE.md), in a minute
	@.ci/need nodejs npm
	go test -count=1 -v -run Conformance ./test/conformance

lint: build ## gofmt, go vet, staticcheck, shellcheck, caddy fmt
	@.ci/need shellcheck
	@unformatted=$$(gofmt -l .) && if [ -n "$$unformatted" ]; then \
		echo "not formatted, run gofmt -w on:" $$unformatted >&2; exit 1; \
	fi
	go vet ./...
	go tool staticcheck ./...
	shellcheck xcaddy.sh .ci/*
	@bin/caddy fmt --diff Caddyfile.example >bin/fmt.diff || { \
		grep '^[-+]' bin/fmt.diff; echo "Caddyfile.example: run bin/caddy fmt --overwrite Caddyfile.example" >&2; exit 1; \
	}
	@echo "lint: nothing to complain about"

bench: build ## the figures of docs/PERFORMANCE.md, in some minutes; nothing else should run
	@.ci/need postgresql wrk haproxy nginx varnish
	go test -run '^$$' -bench . -benchmem ./handoff/... ./caddymodule/...
	go run ./test/bench edge
	go run ./test/bench cache
	go run ./test/bench collapse
	go run ./test/bench orders
	go run ./test/bench revoke
