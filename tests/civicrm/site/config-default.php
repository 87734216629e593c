<?php
// WordPress of the test site.
define('DB_NAME', 'wordpress');
define('DB_USER', 'site');
define('DB_PASSWORD', 'dbpass');
define('DB_HOST', '127.0.0.1');
define('WP_CONTENT_DIR', '/var/lib/wordpress/wp-content');
define('WP_HOME', 'http://civi.test');
define('WP_SITEURL', 'http://civi.test');
define('WP_HTTP_BLOCK_EXTERNAL', TRUE);
define('DISABLE_WP_CRON', TRUE);
