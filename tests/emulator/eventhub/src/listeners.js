// The ports that clients connect to: AMQP and WebSocket, plain and over TLS.

import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { WebSocketServer, createWebSocketStream } from 'ws';

const PATH = /^\/\$servicebus\/websocket\/?$/;
// The one of Azure's SDKs, and the standard's.
const PROTOCOLS = ['AMQPWSB10', 'amqp'];

export class Listeners {
  // With `certificate` as the options of TLS; without, the ports for TLS are missing.
  constructor(certificate) {
    this.servers = { amqp: net.createServer(), ws: http.createServer() };
    if (certificate) {
      this.servers.amqps = tls.createServer(certificate);
      this.servers.wss = https.createServer(certificate);
    }
    this.ports = Object.fromEntries(Object.keys(this.servers).map((name) => [name, 0]));
  }

  // Hands each connection to `connected(stream, raw, transport)`.
  serve(connected) {
    for (const [transport, server] of Object.entries(this.servers)) {
      const raws = new Map();
      server.on('connection', (raw) => {
        raw.setNoDelay(true);
        raw.on('error', () => {});
        const { remotePort } = raw;
        raws.set(remotePort, raw);
        raw.on('close', () => raws.delete(remotePort));
      });
      if (transport === 'amqp') server.on('connection', (raw) => connected(raw, raw, transport));
      if (transport === 'amqps') {
        server.on('secureConnection', (stream) => connected(stream, raws.get(stream.remotePort), transport));
      }
      if (server instanceof http.Server || server instanceof https.Server) {
        const sockets = new WebSocketServer({
          server,
          verifyClient: ({ req }) => PATH.test(req.url),
          handleProtocols: (offered) => PROTOCOLS.find((protocol) => offered.has(protocol)) ?? false,
        });
        sockets.on('connection', (socket, request) => {
          connected(createWebSocketStream(socket), raws.get(request.socket.remotePort), transport);
        });
      }
    }
  }

  // Opens the ports: those of the system's choice first, and the same ones from then on.
  async open() {
    for (const [name, server] of Object.entries(this.servers)) {
      if (server.listening) continue;
      server.listen(this.ports[name], '127.0.0.1');
      await once(server, 'listening');
      this.ports[name] = server.address().port;
    }
  }

  // Connections go on.
  close() {
    Object.values(this.servers).forEach((server) => server.close());
  }
}
