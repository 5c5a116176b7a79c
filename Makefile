# smtpwall: build, test, install. `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# sudo's PATH lacks the place where Go's own installer puts it.
GO := $(or $(shell command -v go),$(wildcard /usr/local/go/bin/go),$(wildcard /usr/lib/go-1.26/bin/go),go)
export PATH := $(PATH):$(patsubst %/,%,$(dir $(GO)))

# A static binary: no C library to match, nothing loaded at run time.
export CGO_ENABLED := 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)

PREFIX     ?= /usr/local
DESTDIR    ?=
SYSCONFDIR ?= /etc
BINDIR      = $(PREFIX)/bin
LIBDIR      = $(PREFIX)/lib
MANDIR      = $(PREFIX)/share/man

FUZZTIME  ?= 20s
TESTFLAGS ?= -count=1 -timeout=25m
TESTS     ?= ./...

.PHONY: help root deps build run test vet fuzz bench install uninstall clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install the Debian packages that the tests and benchmarks use, where missing (root)
	@test/deps

build: ## bin/smtpwall, static
	@command -v $(GO) >/dev/null || { echo 'make: Go is needed: https://go.dev/dl (looked in PATH and /usr/local/go/bin)' >&2; exit 1; }
	$(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/smtpwall ./cmd/smtpwall

run: build ## build and run in enforce mode on a default configuration until Ctrl-C (root)
	@exec ./bin/smtpwall run --mode enforce

test: root deps build vet ## everything but benchmarks; a skipped test fails (root)
	@GO=$(GO) $(GO) run ./test/run $(TESTFLAGS) $(TESTS)

root:
	@[ "$$(id -u)" = 0 ] || { echo 'make: the tests make network namespaces and need root: sudo make test' >&2; exit 1; }

vet:
	$(GO) vet ./...

fuzz: ## each fuzz target for FUZZTIME (20s)
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

bench: deps build ## smtpwall beside nginx, HAProxy and Postfix (root)
	$(GO) run ./test/bench

install: ## binary, units, users, configuration under DESTDIR and PREFIX (/usr/local); `make build` first
	@test -x bin/smtpwall || { echo 'make: no bin/smtpwall: run `make build` first' >&2; exit 1; }
	@BINDIR=$(BINDIR) LIBDIR=$(LIBDIR) MANDIR=$(MANDIR) SYSCONFDIR=$(SYSCONFDIR) DESTDIR=$(DESTDIR) systemd/install

uninstall: ## take it out again; configuration, spool, certificates and audit files stay
	@BINDIR=$(BINDIR) LIBDIR=$(LIBDIR) MANDIR=$(MANDIR) SYSCONFDIR=$(SYSCONFDIR) DESTDIR=$(DESTDIR) systemd/uninstall

clean:
	rm -rf bin
