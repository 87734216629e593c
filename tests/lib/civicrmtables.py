"""Tables of CiviCRM's shape, as far as the jobs read them (tests/civicrm has the real one)."""
TABLES = """
CREATE TABLE civicrm_domain (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(64), version VARCHAR(32));
CREATE TABLE civicrm_setting (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255), value TEXT);
CREATE TABLE civicrm_job (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, run_frequency VARCHAR(8) DEFAULT 'Daily',
  last_run TIMESTAMP NULL, scheduled_run_date TIMESTAMP NULL, name VARCHAR(255), api_entity VARCHAR(255) DEFAULT 'Job',
  api_action VARCHAR(255), is_active TINYINT DEFAULT 1);
CREATE TABLE civicrm_job_log (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, run_time TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
  job_id INT UNSIGNED, name VARCHAR(255), description VARCHAR(255), data TEXT);
CREATE TABLE civicrm_mailing_job (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, mailing_id INT UNSIGNED NOT NULL,
  scheduled_date TIMESTAMP NULL, start_date TIMESTAMP NULL, end_date TIMESTAMP NULL, status VARCHAR(12),
  is_test TINYINT DEFAULT 0, job_type VARCHAR(255), parent_id INT UNSIGNED, job_offset INT DEFAULT 0, job_limit INT DEFAULT 0);
CREATE TABLE civicrm_mailing_recipients (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, mailing_id INT UNSIGNED);
CREATE TABLE civicrm_mailing_event_queue (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, job_id INT UNSIGNED);
CREATE TABLE civicrm_mailing_event_delivered (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, event_queue_id INT UNSIGNED,
  time_stamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE civicrm_mailing_event_bounce (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, event_queue_id INT UNSIGNED,
  bounce_reason VARCHAR(255), time_stamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE civicrm_email (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, on_hold INT DEFAULT 0, hold_date DATETIME);
INSERT INTO civicrm_domain VALUES (1, 'Parish', '5.33.2');
"""

# For TABLES: three mailings in delivery, one paused by an administrator, one that is done; jobs of every kind.
MAILINGS = """
SET @past = NOW() - INTERVAL 1 MINUTE;
INSERT INTO civicrm_mailing_job (id, mailing_id, scheduled_date, start_date, status, job_type, parent_id, is_test) VALUES
 (1, 1, @past, @past, 'Running', NULL, NULL, 0), (2, 1, @past, @past, 'Complete', 'child', 1, 0),
 (3, 1, @past, @past, 'Running', 'child', 1, 0), (4, 1, @past, NULL, 'Scheduled', 'child', 1, 0),
 (5, 2, @past, NULL, 'Scheduled', NULL, NULL, 0), (6, 3, NOW() + INTERVAL 1 DAY, NULL, 'Scheduled', NULL, NULL, 0),
 (7, 4, @past, @past, 'Paused', NULL, NULL, 0), (8, 4, @past, @past, 'Paused', 'child', 7, 0),
 (9, 5, @past, @past, 'Running', 'child', NULL, 1);
INSERT INTO civicrm_job (id, name, run_frequency, api_action, scheduled_run_date) VALUES
 (1, 'mail', 'Always', 'process_mailing', NULL), (2, 'other', 'Always', 'cleanup', NULL),
 (3, 'bounces', 'Always', 'fetch_bounces', NULL), (4, 'reminders', 'Daily', 'send_reminder', '2020-01-01 00:00:00'),
 (5, 'later', 'Always', 'mail_report', NOW() + INTERVAL 9 DAY);
"""
