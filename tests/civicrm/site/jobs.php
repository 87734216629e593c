<?php
// Scheduled jobs that go wrong in each way known: every one is a file of its own that links to this one.

function civicrm_api3_job_civitest_ok($params) {
  return civicrm_api3_create_success(['done'], $params, 'Job', 'civitest_ok');
}

function civicrm_api3_job_civitest_apierror($params) {
  return civicrm_api3_create_error('refused on purpose');
}

function civicrm_api3_job_civitest_exception($params) {
  throw new API_Exception('thrown on purpose');
}

function civicrm_api3_job_civitest_typeerror($params) {
  return (NULL)->nothing();
}

function civicrm_api3_job_civitest_exit($params) {
  exit(3);
}

function civicrm_api3_job_civitest_memory($params) {
  ini_set('memory_limit', '64M');
  for ($hoard = [];;) {
    $hoard[] = str_repeat('x', 1 << 20);
  }
}

function civicrm_api3_job_civitest_segv($params) {
  posix_kill(getmypid(), 11);
  sleep(60);
}

function civicrm_api3_job_civitest_sql($params) {
  CRM_Core_DAO::executeQuery('SELECT * FROM civicrm_no_such_table');
}

// Until the file /tmp/civitest-go exists; asks the database meanwhile, so that it notices its loss.
function civicrm_api3_job_civitest_sleep($params) {
  touch('/tmp/civitest-asleep');
  for ($i = 0; $i < 6000 && !file_exists('/tmp/civitest-go'); $i++) {
    usleep(20000);
    clearstatcache();
    CRM_Core_DAO::singleValueQuery('SELECT 1');
  }
  return civicrm_api3_create_success(['woke'], $params, 'Job', 'civitest_sleep');
}
