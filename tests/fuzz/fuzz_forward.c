// libFuzzer target: any line as a record, and any bytes as a server's greeting.
// links: civinit-forward
#include "forward/login.h"
#include "forward/record.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int good) {
    if (!good)
        abort();
}

// Whatever the line is, the entry is one whole list of a time and a map.
static void pack(const char *line, size_t len) {
    struct buf entry = {0}, extra = {0};
    mp_text(&extra, "host", 4);
    mp_text(&extra, "h", 1);
    record_pack(&entry, line, len, &extra, 1, 1);
    must(!entry.failed);
    struct mp_reader r = {entry.data, entry.data + entry.len};
    must(mp_skip(&r) == 0 && r.p == r.end);
    buf_free(&entry);
    buf_free(&extra);
}

static void greet(const char *bytes, size_t len) {
    static const struct settings s = {
        .shared_key_file = "/dev/null", .user = "u", .password_file = "/dev/null", .host = "h"};
    struct mp_reader r = {bytes, bytes + len};
    struct login login = {0};
    struct buf out = {0};
    struct err e;
    if (login_helo(&login, &s, &r, &out, &e) == 0) {
        struct mp_reader ping = {out.data, out.data + out.len};
        must(mp_skip(&ping) == 0 && ping.p == ping.end);
        login_pong(&login, &s, &r, &e);
    }
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    pack((const char *)data, size);
    greet((const char *)data, size);
    return 0;
}
