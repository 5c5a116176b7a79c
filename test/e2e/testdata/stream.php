<?php
// Sends one message as home-made mailers do. Arguments: how the connection is
// made (stream or fsockopen) and the file. Prints the last reply. The CA is
// openssl.cafile: fsockopen knows no other.
[, $way, $file] = $argv;

function say($to, string $line, string $expected): string
{
    if ($line !== '') {
        fwrite($to, $line . "\r\n");
    }
    $reply = '';
    do {
        $got = fgets($to, 4096);
        if ($got === false) {
            fwrite(STDERR, "connection lost after $line\n");
            exit(1);
        }
        $reply .= $got;
    } while ($got[3] === '-');
    if (!str_starts_with($got, $expected)) {
        fwrite(STDERR, "$line: $reply");
        exit(1);
    }
    return $reply;
}

if ($way === 'fsockopen') {
    $to = fsockopen('ssl://localhost', 465, $code, $text, 20);
} else {
    $context = stream_context_create(['ssl' => ['peer_name' => 'localhost']]);
    $to = stream_socket_client('tcp://127.0.0.1:587', $code, $text, 20, STREAM_CLIENT_CONNECT, $context);
}
if (!$to) {
    fwrite(STDERR, "$code $text\n");
    exit(1);
}
stream_set_timeout($to, 20);
say($to, '', '220');
say($to, 'EHLO client.example', '250');
if ($way !== 'fsockopen') {
    say($to, 'STARTTLS', '220');
    if (stream_socket_enable_crypto($to, true, STREAM_CRYPTO_METHOD_TLS_CLIENT) !== true) {
        exit(1);
    }
    say($to, 'EHLO client.example', '250');
}
say($to, 'MAIL FROM:<orders@shop.example>', '250');
say($to, 'RCPT TO:<customer@example.net>', '250');
say($to, 'DATA', '354');
foreach (file($file) as $line) {
    // One small write for each line, as they do.
    fwrite($to, ($line[0] === '.' ? '.' : '') . $line);
}
echo say($to, '.', '250');
say($to, 'QUIT', '221');
