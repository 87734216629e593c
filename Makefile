# civinit: process 1 of a CiviCRM instance's containers, and its helpers.
#
#   make              the programs, in build/rel
#   make check        every test (V=san: under ASan and UBSan, V=cov: with coverage)
#   make check T=log  the tests whose name contains "log"
#   make fuzz         every parser of foreign bytes, fuzzed
#   make lint         warnings as errors, static analysis, formatting, manuals
#   make deps         install what building and testing need (apt, as root)
#   make demo         the main job on real parts: web page, cron run, backup
#   make bench        how it compares with what people use today
#   make install      PREFIX=/usr/local DESTDIR=
#
# A program is a folder: every .c of it but main.c goes into an archive of the
# same name, which the program and its unit tests link. Libraries are named per
# program, so that none reaches a binary that does not need it.

V ?= rel
B := build/$(V)
PREFIX ?= /usr/local
VERSION := 0.1.0
ifeq ($(origin CC),default)
CC := gcc
endif
T ?=

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wwrite-strings -Wvla -Wno-missing-field-initializers -Wno-unused-parameter
CFLAGS.rel := -O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2
CFLAGS.san := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS.cov := -O0 -g --coverage
CFLAGS.lint := -O2 -Werror -fanalyzer
LDFLAGS.rel := -Wl,-z,relro,-z,now
# Not for unit tests: Criterion finds its tests in a section that nothing refers to.
GC := -Wl,--gc-sections
LDFLAGS.san := -fsanitize=address,undefined
LDFLAGS.cov := --coverage
CFLAGS.fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LDFLAGS.fuzz := -fsanitize=address,undefined
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DCIVINIT_VERSION='"$(VERSION)"' -Isupervisor -Ijobs $(WARN) \
             -ffunction-sections -fdata-sections $(CFLAGS.$(V)) $(CFLAGS) -MMD -MP
ALL_LDFLAGS = $(LDFLAGS.$(V)) $(LDFLAGS)
# Statically linked is what the image gets; the sanitizers cannot be.
STATIC := $(if $(filter san fuzz,$(V)),,-static)

PROGRAMS := civinit civinit-log civinit-forward civinit-probe civinit-probe-login civinit-jobs civinit-jobs-helper \
            civinit-backup civinit-statusd
# The folder of each program, and what it links beside libbase and libconf.
DIR.civinit             := supervisor
DIR.civinit-log         := jobs/log
DIR.civinit-forward     := jobs/forward
DIR.civinit-probe       := jobs/probe
DIR.civinit-probe-login := jobs/login
DIR.civinit-jobs        := jobs/cron
DIR.civinit-jobs-helper := jobs/civicrm
DIR.civinit-backup      := jobs/backup
DIR.civinit-statusd     := jobs/status
PKG.civinit-forward     := openssl
PKG.civinit-probe-login := mysqlclient libcurl
# Archives of others that a program also links.
ALSO.civinit-probe-login := $(B)/libcivinit-probe.a
PKG.civinit-jobs-helper := mysqlclient libcurl jansson
PKG.civinit-backup      := libarchive libdeflate libisal libzstd zlib mysqlclient libcurl jansson libcrypto
PKG.civinit-statusd     := libmicrohttpd jansson libcurl
LIBS.civinit-probe      := -lresolv
LIBS.civinit-probe-login := -lresolv
STATIC.civinit          := $(STATIC)
STATIC.civinit-jobs     := $(STATIC)
STATIC.civinit-log      := $(STATIC)

# Programs whose main.c exists; a folder without one is not built.
BUILT := $(foreach p,$(PROGRAMS),$(if $(wildcard $(DIR.$(p))/main.c),$(p)))
BINS := $(addprefix $(B)/,$(BUILT))

all: $(BINS)

objs = $(patsubst %.c,$(B)/obj/%.o,$(filter-out %/main.c,$(wildcard $(addsuffix /*.c,$(1)))))
pkg_cflags = $(if $(1),$(shell pkg-config --cflags $(1)))
pkg_libs = $(if $(1),$(shell pkg-config --libs $(1)))

# libbase: libc only. libconf: and inih. libcommon: what several jobs share.
OBJ.libbase := $(call objs,supervisor/base)
OBJ.libconf := $(call objs,supervisor/conf)
OBJ.libcommon := $(call objs,jobs/common)
# Flags that single folders need.
$(B)/obj/jobs/%.o: XCFLAGS = $(call pkg_cflags,mysqlclient jansson libisal)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(XCFLAGS) -c $< -o $@

$(B)/libbase.a: $(OBJ.libbase)
$(B)/libconf.a: $(OBJ.libconf)
$(B)/libcommon.a: $(OBJ.libcommon)
$(B)/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $(filter %.o,$^)

# program NAME: its archive, its binary, its unit tests.
define program
OBJ.$(1) := $(call objs,$(DIR.$(1)) $(if $(filter supervisor,$(DIR.$(1))),supervisor/core supervisor/run supervisor/cli supervisor/exec,))
$(B)/lib$(1).a: $$(OBJ.$(1))
LINK.$(1) = $(B)/lib$(1).a $(ALSO.$(1)) $(if $(filter jobs/%,$(DIR.$(1))),$(B)/libcommon.a) $(B)/libconf.a $(B)/libbase.a
$(B)/$(1): $(B)/obj/$(DIR.$(1))/main.o $$(LINK.$(1))
	$$(CC) $$(ALL_CFLAGS) $(STATIC.$(1)) $$(GC) $$(ALL_LDFLAGS) -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(LINK.$(1)) -Wl,--end-group \
	  $$(call pkg_libs,$(PKG.$(1))) -linih -lpthread -lm $(LIBS.$(1))
# A unit test of the program: tests/unit/NAME/test_X.c
$(B)/unit/$(1)/%: tests/unit/$(1)/%.c $$(LINK.$(1))
	@mkdir -p $$(@D)
	$$(CC) $$(ALL_CFLAGS) $$(call pkg_cflags,mysqlclient jansson libisal) $$(ALL_LDFLAGS) -o $$@ $$< -Wl,--start-group $$(LINK.$(1)) -Wl,--end-group \
	  $$(call pkg_libs,$(PKG.$(1))) -linih -lpthread -lm -lcriterion $(LIBS.$(1))
UNIT += $$(patsubst tests/unit/$(1)/%.c,$(B)/unit/$(1)/%,$$(wildcard tests/unit/$(1)/test_*.c))
endef
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p))))

# What system tests run besides the programs.
TOOLS := $(patsubst tests/lib/%.c,$(B)/tools/%,$(wildcard tests/lib/*.c))
$(B)/tools/%: tests/lib/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $<

tests-built: $(BINS) $(UNIT) $(TOOLS)

check: tests-built
	tests/run $(B) $(T)

# make fuzz [FUZZ_SECONDS=20]: every tests/fuzz/fuzz_X.c for that long. Its line "// links: PROGRAM"
# names whose archive it needs. Clang with its runtime (libclang-rt-14-dev), only for this.
FUZZ_SECONDS ?= 20
fuzz:
	$(MAKE) V=fuzz CC=clang fuzz-run
fuzz-run: $(patsubst tests/fuzz/%.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
	@for f in $^; do echo "fuzz: $$f"; mkdir -p $$f.corpus; \
	  $$f -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=$$f. -print_final_stats=0 $$f.corpus $$(ls -d tests/fuzz/$$(basename $$f).seeds 2>/dev/null) >$$f.log 2>&1 \
	    || { tail -40 $$f.log; exit 1; }; tail -1 $$f.log; done
.SECONDEXPANSION:
fuzz_program = $(shell sed -n 's|^// links: ||p' tests/fuzz/$(1).c)
$(B)/fuzz_%: tests/fuzz/fuzz_%.c $$(LINK.$$(call fuzz_program,fuzz_$$*))
	$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer,address,undefined -o $@ $< -Wl,--start-group $(LINK.$(call fuzz_program,fuzz_$*)) -Wl,--end-group \
	  $(call pkg_libs,$(PKG.$(call fuzz_program,fuzz_$*))) -linih -lpthread -lm

lint:
	tests/lint

deps:
	tests/deps

demo:
	tests/demo

bench: tests-built
	@for d in tests/bench/*/run; do echo "== $$d"; B=$(B) $$d || exit 1; done

MAN := $(wildcard supervisor/*.[1578] jobs/*/*.[1578])
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(addprefix $(DESTDIR)$(PREFIX)/share/man/man,1 5 7 8)
	install -m 0755 $(BINS) $(DESTDIR)$(PREFIX)/bin/
	for m in $(MAN); do install -m 0644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/; done

clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
.PHONY: all check fuzz fuzz-run lint deps demo bench install clean tests-built
.SECONDARY:
