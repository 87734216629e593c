// A login to an SMTP or IMAP server, and nothing more: no mail is sent, no mailbox opened. What
// the mail gate of the jobs and `civinit-probe smtp|imap` ask.
#ifndef COMMON_MAIL_H
#define COMMON_MAIL_H

#include "base/err.h"
#include "common/obstacle.h"
#include "conf/conf.h"

#include <stdint.h>

struct mail_account {
    // smtp://HOST[:587] and imap://HOST[:143] insist on STARTTLS, smtps:// and imaps:// speak TLS
    // from the first byte, smtp+plain:// and imap+plain:// are not encrypted at all.
    const char *url;
    const char *user;          // NULL: connect and greet only
    const char *password_file; // read at each login
    const char *ca;            // PEM file to trust instead of the system's; may be NULL
    int64_t timeout_ms;        // for everything; 0: 20 s
};

// Fills a from [mail] for kind "smtp" or "imap"; texts live as long as c. -1 (EX_CONFIG): the key
// is not there.
int mail_account_from_conf(const struct conf *c, const char *kind, struct mail_account *a,
                           struct err *e);

// Connects, logs in, says goodbye. -1: e (EX_NOPERM when the login is refused for good, EX_CONFIG
// for a URL that is none of the above or an unreadable password file, else
// EX_UNAVAILABLE) holds the obstacle and the server's own line; *ret_why (unless NULL) its kind.
int mail_login(const struct mail_account *a, enum obstacle *ret_why, struct err *e);

#endif
