<?php
// The test site's own tool, run inside its root directory:  php site.php wordpress|civicrm|configure|mailing|job|locale …
const HOST = 'civi.test';
const CORE = '/usr/share/wordpress/wp-content/plugins/civicrm/civicrm';

$_SERVER += ['HTTP_HOST' => HOST, 'SERVER_PROTOCOL' => 'HTTP/1.1', 'REQUEST_METHOD' => 'GET', 'REMOTE_ADDR' => '127.0.0.1'];
foreach (['PHP_SELF', 'SCRIPT_NAME'] as $key) {
  $_SERVER[$key] = '/index.php';
}
$_SERVER['SCRIPT_FILENAME'] = '/usr/share/wordpress/index.php';

$step = $argv[1] ?? '';
if ($step === 'wordpress') {
  define('WP_INSTALLING', TRUE);
}
require '/usr/share/wordpress/wp-load.php';

function api(string $entity, string $action, array $params = []): array {
  return civicrm_api3($entity, $action, $params);
}

function boot(): void {
  wp_set_current_user(1);
  civicrm_initialize();
  CRM_Core_Session::singleton()->set('userID', CRM_Core_BAO_UFMatch::getContactId(1));
}

function install_wordpress(): void {
  require_once ABSPATH . 'wp-admin/includes/upgrade.php';
  add_filter('pre_wp_mail', '__return_true');
  wp_install('Civi', 'admin', 'admin@' . HOST, TRUE, '', 'adminpass');
  update_option('active_plugins', ['civicrm/civicrm.php']);
}

// The steps of CiviCRM's web installer.
function install_civicrm(): void {
  require_once ABSPATH . 'wp-admin/includes/plugin.php';
  wp_set_current_user(1);
  require_once CORE . '/CRM/Core/ClassLoader.php';
  CRM_Core_ClassLoader::singleton()->register();
  spl_autoload_register(function ($class) {
    $file = CORE . '/setup/src/' . str_replace('\\', '/', substr($class, 5)) . '.php';
    if (strpos($class, 'Civi\\Setup') === 0 && is_file($file)) {
      require_once $file;
    }
  });
  \Civi\Setup::assertProtocolCompatibility(1.0);
  \Civi\Setup::init(['cms' => 'WordPress', 'srcPath' => CORE]);
  $setup = \Civi\Setup::instance();
  $model = $setup->getModel();
  $model->db = ['server' => '127.0.0.1:3306', 'username' => 'site', 'password' => 'dbpass', 'database' => 'civicrm'];
  $model->siteKey = 'sitekey0123456789abcdef';
  $model->paths['cms.root']['path'] = '/usr/share/wordpress';
  $model->lang = 'en_US';
  $model->loadGenerated = FALSE;
  $model->components = ['CiviMail'];
  foreach ($setup->checkRequirements()->getErrors() as $error) {
    echo "requirement: {$error['name']}: {$error['message']}\n";
  }
  $setup->installFiles();
  $setup->installDatabase();
}

function add_group(string $name, array $addresses): void {
  $group = api('Group', 'create', ['title' => $name, 'name' => $name, 'group_type' => [2], 'is_active' => 1]);
  foreach ($addresses as $i => $address) {
    $contact = api('Contact', 'create', ['contact_type' => 'Individual', 'first_name' => "$name$i", 'last_name' => 'Person',
      'api.Email.create' => ['email' => $address, 'is_primary' => 1, 'location_type_id' => 1]]);
    api('GroupContact', 'create', ['group_id' => $group['id'], 'contact_id' => $contact['id'], 'status' => 'Added']);
  }
}

function configure(array $misbehaviours): void {
  boot();
  CRM_Core_BAO_UFMatch::synchronizeUFMatch(get_userdata(1), 1, 'admin@' . HOST, 'WordPress', NULL, NULL);
  Civi::settings()->set('mailing_backend', ['outBound_option' => CRM_Mailing_Config::OUTBOUND_OPTION_SMTP, 'smtpServer' => '127.0.0.1',
    'smtpPort' => 25, 'smtpAuth' => '1', 'smtpUsername' => 'mailer', 'smtpPassword' => CRM_Utils_Crypt::encrypt('mailerpass')]);
  Civi::settings()->set('versionCheck', 0);
  api('OptionValue', 'get', ['option_group_id' => 'from_email_address',
    'api.OptionValue.create' => ['name' => '"Civi" <info@' . HOST . '>', 'label' => '"Civi" <info@' . HOST . '>']]);
  api('MailSettings', 'create', ['id' => 1, 'domain_id' => 1, 'name' => 'bounces', 'is_default' => 1, 'domain' => HOST,
    'localpart' => 'bounces+', 'protocol' => 'IMAP', 'server' => '127.0.0.1', 'port' => 143, 'username' => 'bounces',
    'password' => 'imappass', 'is_ssl' => 0, 'source' => 'INBOX']);
  add_group('people', array_map(function ($i) { return "person$i@example.test"; }, range(1, 24)));
  add_group('gone', ['gone1@example.test', 'gone2@example.test']);
  foreach ($misbehaviours as $m) {
    api('Job', 'create', ['name' => "Test $m", 'api_entity' => 'Job', 'api_action' => "civitest_$m", 'run_frequency' => 'Always', 'is_active' => 0]);
  }
}

function submit_mailing(string $group): void {
  boot();
  $tokens = '{action.optOutUrl} {action.unsubscribeUrl} {domain.address}';
  $mailing = api('Mailing', 'create', ['name' => 'To ' . $group, 'subject' => 'News for {contact.first_name}',
    'body_text' => "Good day {contact.first_name}\n$tokens", 'body_html' => "<p>Good day {contact.first_name}</p>$tokens",
    'from_name' => 'Civi', 'from_email' => 'info@' . HOST, 'replyto_email' => 'info@' . HOST,
    'groups' => ['include' => [api('Group', 'getsingle', ['name' => $group])['id']]], 'header_id' => '', 'footer_id' => '',
    'open_tracking' => 0, 'url_tracking' => 0, 'created_id' => CRM_Core_BAO_UFMatch::getContactId(1)]);
  api('Mailing', 'submit', ['id' => $mailing['id'], 'scheduled_date' => 'now', 'approval_date' => 'now']);
}

switch ($step) {
  case 'wordpress':
    install_wordpress();
    break;

  case 'civicrm':
    install_civicrm();
    break;

  case 'configure':
    configure(array_slice($argv, 2));
    break;

  case 'mailing':
    submit_mailing($argv[2]);
    break;

  case 'job':
    boot();
    (new CRM_Core_JobManager())->executeJobById((int) $argv[2]);
    break;

  case 'locale':
    boot();
    Civi::settings()->set('lcMessages', $argv[2]);
    break;

  default:
    exit(64);
}
