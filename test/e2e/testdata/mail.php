<?php
// Sends one message with mail(). Argument: the message; its first lines up to
// the empty one are given as further header fields.
[$header, $body] = explode("\r\n\r\n", file_get_contents($argv[1]), 2);
$fields = [];
foreach (explode("\r\n", $header) as $line) {
    [$name, $value] = explode(': ', $line, 2);
    $fields[$name] = $value;
}
$to = $fields['To'];
$subject = $fields['Subject'];
unset($fields['To'], $fields['Subject']);
// mail() ends the last line itself.
$body = preg_replace('/\r\n\z/', '', $body);
exit(mail($to, $subject, $body, $fields) ? 0 : 1);
