import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/**
 * Sends a message as Jakarta Mail does, with the platform's trust manager and the check of the name. Arguments: host,
 * port, starttls or implicit.
 */
public class Client {
    private final Socket socket;
    private final BufferedReader reader;

    private Client(Socket socket) throws IOException {
        this.socket = socket;
        this.reader = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.US_ASCII));
    }

    private void expect(String code) throws IOException {
        String line;
        do {
            line = reader.readLine();
            if (line == null || !line.startsWith(code)) {
                throw new IOException("want " + code + ", got " + line);
            }
        } while (line.charAt(3) == '-');
    }

    private void say(String line, String code) throws IOException {
        socket.getOutputStream().write((line + "\r\n").getBytes(StandardCharsets.US_ASCII));
        expect(code);
    }

    private static Socket secure(Socket plain, String host, int port) throws IOException {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        SSLSocket socket = (SSLSocket) factory.createSocket(plain, host, port, true);
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        socket.setSSLParameters(parameters);
        socket.startHandshake();
        return socket;
    }

    public static void main(String[] args) throws IOException {
        String host = args[0];
        int port = Integer.parseInt(args[1]);
        Socket socket = new Socket();
        socket.connect(new InetSocketAddress(host, port), 20_000);
        if (args[2].equals("implicit")) {
            socket = secure(socket, host, port);
        }
        Client client = new Client(socket);
        client.expect("220");
        client.say("EHLO client.example", "250");
        if (args[2].equals("starttls")) {
            client.say("STARTTLS", "220");
            client = new Client(secure(socket, host, port));
            client.say("EHLO client.example", "250");
        }
        client.say("MAIL FROM:<app@example.org>", "250");
        client.say("RCPT TO:<you@example.com>", "250");
        client.say("DATA", "354");
        client.say("From: app@example.org\r\nTo: you@example.com\r\nSubject: java\r\n\r\nhello\r\n.", "250");
        client.say("QUIT", "221");
    }
}
