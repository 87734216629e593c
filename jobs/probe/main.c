// civinit-probe: one readiness question, asked once or until the answer is yes.
#include "probe/probe.h"

int main(int argc, char **argv) {
    return probe_main(argc, argv, NULL);
}
