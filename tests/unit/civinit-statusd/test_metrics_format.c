#include "status/metrics_format.h"

#include <criterion/criterion.h>

static void write_some(bool openmetrics, struct buf *b) {
    struct format f = {.out = b, .openmetrics = openmetrics};
    format_family(&f, "a_seconds", FORMAT_COUNTER, "seconds", "Time.");
    format_ms(&f, 1500, LABELS("x", "q\"b\\n\nz", "y", "2"));
    format_us(&f, 2000000, NULL);
    format_family(&f, "empty", FORMAT_GAUGE, "", "No sample.");
    format_family(&f, "b", FORMAT_INFO, "", "Info.");
    format_sample(&f, 1, LABELS("v", "1"));
    format_family(&f, "c_bytes", FORMAT_GAUGE, "bytes", "Bytes.");
    format_sample(&f, -3, LABELS("i", format_index(&f, 7)));
    format_ms(&f, -1250, NULL);
    format_end(&f);
}

Test(metrics_format, openmetrics) {
    autobuf struct buf b = {0};
    write_some(true, &b);
    cr_expect_str_eq(b.data, "# HELP a_seconds Time.\n# TYPE a_seconds counter\n"
                             "# UNIT a_seconds seconds\n"
                             "a_seconds_total{x=\"q\\\"b\\\\n\\nz\",y=\"2\"} 1.500\n"
                             "a_seconds_total 2\n"
                             "# HELP b Info.\n# TYPE b info\nb_info{v=\"1\"} 1\n"
                             "# HELP c_bytes Bytes.\n# TYPE c_bytes gauge\n# UNIT c_bytes bytes\n"
                             "c_bytes{i=\"7\"} -3\nc_bytes -1.250\n# EOF\n");
}

Test(metrics_format, text) {
    autobuf struct buf b = {0};
    write_some(false, &b);
    cr_expect_str_eq(b.data, "# HELP a_seconds_total Time.\n# TYPE a_seconds_total counter\n"
                             "a_seconds_total{x=\"q\\\"b\\\\n\\nz\",y=\"2\"} 1.500\n"
                             "a_seconds_total 2\n"
                             "# HELP b_info Info.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n"
                             "# HELP c_bytes Bytes.\n# TYPE c_bytes gauge\n"
                             "c_bytes{i=\"7\"} -3\nc_bytes -1.250\n");
}
