// Gives back what starting up has touched.
#ifndef STATUS_TRIM_H
#define STATUS_TRIM_H

// Unmaps the pages of files that only dynamic linking and the initialisers of libraries have
// needed, and returns free heap. Pages that are needed again come back from the page cache.
void trim_mappings(void);

#endif
