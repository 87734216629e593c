// A line for whoever started this program and wants to know, sd_notify(3).
#ifndef PROBE_NOTIFY_H
#define PROBE_NOTIFY_H

// Sends it to the socket in NOTIFY_SOCKET; without one, or when it cannot be sent now, nothing.
void notify_send(const char *text);

#endif
