// The control socket: RUN_DIR/control. A client sends one line and gets one back:
//
//     start|stop|restart|reload NAME, reload, ping          → "ok …" or "error CODE …"
//
// Only root and civinit's own user are heard (SO_PEERCRED, unix(7)).
#ifndef RUN_CONTROL_H
#define RUN_CONTROL_H

#include "run/sup.h"

// Makes the socket; a failure is said, and civinit goes on without.
void control_open(struct sup *s);

// Whether a civinit listens in that run dir already.
bool control_taken(const char *run_dir);

void control_accept(struct sup *s);
void control_read(struct sup *s, size_t client);

// Ends clients that say nothing.
void control_timers(struct sup *s);

// Removes socket and status file.
void control_close(struct sup *s);

#endif
