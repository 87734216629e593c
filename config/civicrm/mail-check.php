<?php
/**
 * Would the mail server let CiviCRM in?  Asks with CiviCRM's own code and settings, sends nothing.
 *
 *     [mail]
 *     check = php /usr/share/civinit/civicrm/mail-check.php      with CIVICRM_SETTINGS in the environment
 *     check = cv scr /usr/share/civinit/civicrm/mail-check.php   where cv finds the site
 *
 * The last argument is "smtp" or "imap". Exit code 0: yes, or there is no such server; 1: no, the
 * reason is on standard error. The settings in the database are CiviCRM's, no secret is needed here.
 */

/** Loads CiviCRM, unless cv has done so. CIVICRM_SETTINGS: the path of civicrm.settings.php. */
function civinit_boot() {
  if (class_exists('CRM_Core_Config', FALSE)) {
    return;
  }
  $settings = getenv('CIVICRM_SETTINGS');
  if (!$settings || !is_readable($settings)) {
    throw new Exception('CIVICRM_SETTINGS must be the path of civicrm.settings.php');
  }
  $_SERVER += ['HTTP_HOST' => 'localhost', 'REMOTE_ADDR' => '127.0.0.1', 'REQUEST_METHOD' => 'GET', 'SERVER_SOFTWARE' => ''];
  require_once $settings;
  global $civicrm_root;
  require_once $civicrm_root . '/CRM/Core/ClassLoader.php';
  CRM_Core_ClassLoader::singleton()->register();
  CRM_Core_Config::singleton();
}

/** PHP's own words about a failed TLS connection, which CiviCRM's messages leave out; "" if there was none. */
function civinit_tls_failure($new = NULL) {
  static $words = '';
  if ($new !== NULL && $words === '' && preg_match('/certificate|SSL operation failed/', $new)) {
    $last = strrchr(trim($new), "\n"); // of OpenSSL: error:NUMBER:library:function:reason
    $words = ': ' . ($last ? ltrim(strrchr($last, ':'), ': ') : preg_replace('/^\w+\(\): /', '', $new));
  }
  return $words;
}

/** The PEAR mailer inside CiviCRM's own; older versions (5.33) have it, but no getDelegate(). */
function civinit_inner_mailer($mailer) {
  while ($mailer instanceof CRM_Utils_Mail_FilteredPearMailer) {
    $inner = is_callable([$mailer, 'getDelegate']) ? $mailer->getDelegate() : (function () {
      return $this->_delegate;
    })->call($mailer);
    if (!is_object($inner)) {
      throw new Exception('CiviCRM has no mailer');
    }
    $mailer = $inner;
  }
  return $mailer;
}

/** Connects and logs in as the mailer would for its first mail. */
function civinit_check_smtp() {
  $setting = Civi::settings()->get('mailing_backend');
  if (isset($setting['outBound_option']) && $setting['outBound_option'] == CRM_Mailing_Config::OUTBOUND_OPTION_DISABLED) {
    throw new Exception('outgoing mail is disabled in CiviCRM');
  }
  $mailer = civinit_inner_mailer(Civi::service('pear_mail'));
  if (!is_callable([$mailer, 'getSMTPObject'])) {
    return; // sendmail, or mail()
  }
  PEAR::pushErrorHandling(PEAR_ERROR_RETURN);
  $smtp = $mailer->getSMTPObject();
  if (PEAR::isError($smtp)) {
    throw new Exception($smtp->getMessage());
  }
  $smtp->disconnect();
}

/** Opens every mailbox that CiviCRM fetches from. */
function civinit_check_imap() {
  $account = new CRM_Core_DAO_MailSettings();
  $account->domain_id = CRM_Core_Config::domainID();
  $account->find();
  while ($account->fetch()) {
    $protocol = CRM_Core_PseudoConstant::getName('CRM_Core_DAO_MailSettings', 'protocol', $account->protocol);
    if ($account->server && stripos((string) $protocol, 'IMAP') === 0) {
      CRM_Mailing_MailStore::getStore($account->name);
    }
  }
}

$arguments = $_SERVER['argv']; // also where cv includes this file
$kind = end($arguments);
ini_set('display_errors', 'stderr');
try {
  ob_start();
  civinit_boot();
  set_error_handler(function ($level, $text) {
    civinit_tls_failure($text);
    return TRUE;
  });
  $kind === 'imap' ? civinit_check_imap() : civinit_check_smtp();
  ob_end_clean();
  exit(0);
}
catch (Throwable $e) {
  ob_end_clean();
  fwrite(STDERR, "$kind: " . trim(preg_replace('/\s+/', ' ', strip_tags($e->getMessage() . civinit_tls_failure()))) . "\n");
  exit(1);
}
