// CiviCRM's version numbers: "5.33.2", "5.33.beta1". Pure.
#ifndef COMMON_VERSION_H
#define COMMON_VERSION_H

// < 0, 0, > 0 as a is older than, the same as or newer than b. alpha < beta < numbers, as PHP's
// version_compare orders them; a missing part is older ("5.33" < "5.33.0").
int version_compare(const char *a, const char *b);

// The text of <version_no> in CiviCRM's xml/version.xml, the caller's to free; NULL: none.
char *version_of_xml(const char *xml);

#endif
