// The longest time that Node's timers can wait.
const LONGEST = 2 ** 31 - 1;

// As setTimeout, for any time.
export const after = (milliseconds, act) => setTimeout(act, Math.min(Math.max(milliseconds, 0), LONGEST));

// Acts when a link has had nothing to do for `idle_link_ms`.
export class IdleTimer {
  constructor(settings, act) {
    Object.assign(this, { settings, act });
    this.restart();
  }

  restart() {
    const limit = this.settings.idle_link_ms;
    if (this.timer && this.limit === limit) {
      this.timer.refresh();
    } else {
      this.stop();
      this.limit = limit;
      this.timer = after(limit, () => this.act(limit));
    }
  }

  stop() {
    clearTimeout(this.timer);
  }
}
