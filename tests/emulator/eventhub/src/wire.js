// The bytes of one connection, over TCP, TLS or a WebSocket, and what can go wrong with them.

import { EventEmitter } from 'node:events';

const NOTHING = Buffer.alloc(0);

// What rhea takes for a socket. Emits `data`, `error` and `end`, the last once and always.
export class Wire extends EventEmitter {
  // `stream` carries AMQP; `raw` is the TCP socket below it, which may be the same.
  constructor(stream, raw) {
    super();
    this.stream = stream;
    this.raw = raw;
    this.ended = false;
    this.silent = false;
    this.held = [];
    this.cut = undefined;
    this.corked = false;
    stream.on('data', (bytes) => this.emit('data', bytes));
    stream.on('end', () => this.finished());
    stream.on('error', (error) => this.ended || this.emit('error', error));
    stream.on('close', () => this.finished());
  }

  // Frames of one turn of the event loop go out in one piece.
  write(frame) {
    if (this.silent) {
      this.held.push(frame);
    } else if (this.cut) {
      const how = this.cut;
      this.cut = undefined;
      this.silent = true;
      this.stream.write(frame.subarray(0, frame.length / 2), () => this.drop(how));
    } else if (!this.ended) {
      if (!this.corked) {
        this.corked = true;
        this.stream.cork();
        process.nextTick(() => {
          this.corked = false;
          this.stream.uncork();
        });
      }
      this.stream.write(frame);
    }
  }

  end() {
    if (!this.silent) this.stream.end();
  }

  destroy() {
    if (!this.silent) this.drop('reset');
  }

  // Ends it, by a reset or in good order, and without a word of AMQP.
  drop(how) {
    if (how === 'reset') {
      this.raw.resetAndDestroy();
    } else {
      this.stream.end();
    }
    this.finished();
  }

  // The next frame stops in its middle, and then the connection ends.
  cutNextFrame(how) {
    this.cut = how;
  }

  // From here on nothing is read and nothing is written, and the connection stays.
  freeze() {
    this.silent = true;
    this.stream.pause();
  }

  thaw() {
    this.silent = false;
    this.held.splice(0).forEach((frame) => this.write(frame));
    this.stream.resume();
  }

  // Calls back when what has been sent up to now has left this process.
  flushed(done) {
    setImmediate(() => this.stream.write(NOTHING, () => done()));
  }

  finished() {
    if (this.ended) return;
    this.ended = true;
    this.emit('end');
  }
}
