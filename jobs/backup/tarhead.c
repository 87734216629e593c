#include "backup/tarhead.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

// POSIX.1-1988 ustar, as in tar(5).
struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], typeflag,
        linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8],
        prefix[155], rest[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a tar header is one block");

// Twelve bytes: octal, or base 256 from 8 GiB on.
static void put_size(char *p, uint64_t size) {
    char text[24];
    if (size < UINT64_C(1) << 33) {
        snprintf(text, sizeof text, "%011llo", (unsigned long long)size);
        memcpy(p, text, 12);
        return;
    }
    memset(p, 0, 12);
    p[0] = (char)0x80;
    for (int i = 11; i > 3; i--, size >>= 8)
        p[i] = (char)size;
}

static void put_header(uint8_t *out, const char *name, char type, uint64_t size, int64_t mtime_s) {
    struct ustar h = {0};
    char mtime[24];
    snprintf(h.name, sizeof h.name, "%s", name);
    memcpy(h.mode, "0000600", 8);
    memcpy(h.uid, "0000000", 8);
    memcpy(h.gid, "0000000", 8);
    put_size(h.size, size);
    snprintf(mtime, sizeof mtime, "%011llo", (unsigned long long)mtime_s & 077777777777);
    memcpy(h.mtime, mtime, 12);
    memset(h.checksum, ' ', 8);
    h.typeflag = type;
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    memcpy(h.devmajor, "0000000", 8);
    memcpy(h.devminor, "0000000", 8);
    memcpy(out, &h, sizeof h);
    unsigned sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += out[i];
    char text[16];
    snprintf(text, sizeof text, "%06o", sum & 0777777);
    memcpy(out + offsetof(struct ustar, checksum), text, 7);
}

// A pax record counts itself: "17 size=12345678\n".
static size_t put_record(char *p, size_t room, const char *key, const char *value) {
    size_t bare = strlen(key) + strlen(value) + 3, len = bare;
    for (int i = 0; i < 3; i++) {
        char digits[24];
        len = bare + (size_t)snprintf(digits, sizeof digits, "%zu", len);
    }
    snprintf(p, room, "%zu %s=%s\n", len, key, value);
    return len;
}

void tarhead_make(uint8_t out[TARHEAD_BYTES], const char *name, uint64_t size_bytes,
                  int64_t mtime_ms) {
    char records[TAR_BLOCK + 1] = "", value[TAR_BLOCK + 1];
    snprintf(value, sizeof value, "%llu", (unsigned long long)size_bytes);
    size_t n = put_record(records, sizeof records, "size", value);
    snprintf(value, sizeof value, "%lld.%03d", (long long)(mtime_ms / 1000),
             (int)(mtime_ms % 1000));
    n += put_record(records + n, sizeof records - n, "mtime", value);
    // A comment fills the block: "NNN comment=   …\n" is 13 bytes and the blanks.
    size_t left = TAR_BLOCK - n, blanks = left - 13;
    memset(value, ' ', blanks);
    value[blanks] = 0;
    put_record(records + n, sizeof records - n, "comment", value);
    memset(out, 0, TARHEAD_BYTES);
    put_header(out, "PaxHeaders/database.sql", 'x', TAR_BLOCK, mtime_ms / 1000);
    memcpy(out + TAR_BLOCK, records, TAR_BLOCK);
    put_header(out + (size_t)2 * TAR_BLOCK, name, '0', size_bytes, mtime_ms / 1000);
}
