<?php
// Sends a message over a stream, as PHPMailer and Symfony Mailer do, with the
// verification that PHP does by default. Arguments: host, port, starttls or
// implicit.
error_reporting(E_ALL);
ini_set('display_errors', 'stderr');
[, $host, $port, $way] = $argv;
$at = strpos($host, ':') === false ? $host : "[$host]";
$context = stream_context_create(['ssl' => ['verify_peer' => true, 'verify_peer_name' => true, 'peer_name' => $host]]);
$scheme = $way === 'implicit' ? 'ssl' : 'tcp';
$stream = stream_socket_client("$scheme://$at:$port", $number, $text, 20, STREAM_CLIENT_CONNECT, $context);
if (!$stream) {
    fwrite(STDERR, "connecting: $text\n");
    exit(1);
}

function expect($stream, $code) {
    do {
        $line = fgets($stream);
        if ($line === false || substr($line, 0, 3) !== $code) {
            fwrite(STDERR, "want $code, got " . var_export($line, true) . "\n");
            exit(1);
        }
    } while ($line[3] === '-');
}

function say($stream, $line, $code) {
    fwrite($stream, "$line\r\n");
    expect($stream, $code);
}

expect($stream, '220');
say($stream, 'EHLO client.example', '250');
if ($way === 'starttls') {
    say($stream, 'STARTTLS', '220');
    if (!stream_socket_enable_crypto($stream, true, STREAM_CRYPTO_METHOD_TLS_CLIENT)) {
        exit(1);
    }
    say($stream, 'EHLO client.example', '250');
}
say($stream, 'MAIL FROM:<app@example.org>', '250');
say($stream, 'RCPT TO:<you@example.com>', '250');
say($stream, 'DATA', '354');
say($stream, "From: app@example.org\r\nTo: you@example.com\r\nSubject: php\r\n\r\nhello\r\n.", '250');
say($stream, 'QUIT', '221');
