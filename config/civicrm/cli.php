<?php
/**
 * CiviCRM's own bin/cli.php for its scheduled jobs, where there is no cv.  The password comes from a file: no argument that
 * every process can read, as with "cli.php -p".
 *
 *     [civicrm]
 *     cli_command = php /usr/share/civinit/civicrm/cli.php
 *
 * Asks the environment:
 *     CIVICRM_USER, CIVICRM_PASSWORD_FILE   an account of the site, and the file with its password (the job's user reads it)
 *     CIVICRM_SITE                          the site's host name; "localhost" unless given
 *     CIVICRM_CODE                          the folder of CiviCRM; else it is looked for below the working directory
 *     CIVICRM_SETTINGS                      as always, the path of civicrm.settings.php
 */

/** Where each CMS has it. */
function civinit_code() {
  $places = ['vendor/civicrm/civicrm-core', 'wp-content/plugins/civicrm/civicrm', 'sites/all/modules/civicrm', 'modules/civicrm',
    'administrator/components/com_civicrm/civicrm', 'core', '../vendor/civicrm/civicrm-core', '.'];
  foreach (getenv('CIVICRM_CODE') ? [getenv('CIVICRM_CODE')] : $places as $place) {
    if (is_readable("$place/bin/cli.class.php")) {
      return $place;
    }
  }
  throw new Exception('CIVICRM_CODE must be the folder of CiviCRM (with bin/cli.class.php in it)');
}

function civinit_password() {
  $file = getenv('CIVICRM_PASSWORD_FILE');
  if (!$file || !is_readable($file)) {
    throw new Exception('CIVICRM_PASSWORD_FILE must be a readable file');
  }
  return rtrim(file_get_contents($file), "\r\n");
}

try {
  $code = civinit_code();
  if (!getenv('CIVICRM_USER')) {
    throw new Exception('CIVICRM_USER must be an account of the site');
  }
  $_SERVER['argv'] = ['cli.php', '-s', getenv('CIVICRM_SITE') ?: 'localhost', '-u', getenv('CIVICRM_USER'), '-p', civinit_password(),
    '-e', 'Job', '-a', 'execute'];
}
catch (Exception $e) {
  fwrite(STDERR, "ERROR: {$e->getMessage()}\n");
  exit(78);
}
require "$code/bin/cli.class.php";
$cli = new civicrm_Cli();
// Both say why, and end with 0 where they end by themselves: what counts is the job log.
exit($cli->initialize() && $cli->callApi() ? 0 : 1);
