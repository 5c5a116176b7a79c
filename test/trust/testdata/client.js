// Sends a message as nodemailer does, over net and tls with their verification.
// Arguments: host, port, starttls or implicit.
const net = require('net');
const tls = require('tls');

const [host, port, way] = process.argv.slice(2);
const servername = net.isIP(host) ? undefined : host;
const message = 'From: app@example.org\r\nTo: you@example.com\r\nSubject: node\r\n\r\nhello\r\n.';
const fail = (error) => { console.error(error.code, error.message); process.exit(1); };

async function talk(socket, steps) {
  let rest = '';
  const lines = [];
  let wake = () => {};
  const hear = (data) => {
    const parts = (rest + data).split('\r\n');
    rest = parts.pop();
    lines.push(...parts);
    wake();
  };
  socket.on('data', hear);
  for (const [line, code] of steps) {
    if (line) socket.write(line + '\r\n');
    for (;;) {
      while (lines.length === 0) await new Promise((resolve) => { wake = resolve; });
      const reply = lines.shift();
      if (!reply.startsWith(code)) fail(new Error(`want ${code}, got ${reply}`));
      if (reply[3] !== '-') break;
    }
  }
  socket.removeListener('data', hear);
}

const greeting = [['', '220'], ['EHLO client.example', '250']];
const letter = [['MAIL FROM:<app@example.org>', '250'], ['RCPT TO:<you@example.com>', '250'],
  ['DATA', '354'], [message, '250'], ['QUIT', '221']];

if (way === 'implicit') {
  const socket = tls.connect({ host, port, servername }, async () => {
    await talk(socket, [...greeting, ...letter]);
    process.exit(0);
  });
  socket.on('error', fail);
} else {
  const plain = net.connect({ host, port }, async () => {
    await talk(plain, [...greeting, ['STARTTLS', '220']]);
    const socket = tls.connect({ socket: plain, host, servername }, async () => {
      await talk(socket, [greeting[1], ...letter]);
      process.exit(0);
    });
    socket.on('error', fail);
  });
  plain.on('error', fail);
}
