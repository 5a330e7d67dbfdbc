/** News from the server: it is asked for what is new when it says so, and connected to again when it was away. */

const AGAIN = 1500;

/** Asks the server; errors carry what it said. */
export async function ask(path, body) {
  const options = body ? { method: "POST", body } : {};
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(told.error ?? `the server answered ${answer.status}`), { status: answer.status });
}

export class Live {
  /** `take` gets each block of rows, `overview` the state of the folders, `state` what the connection does. */
  constructor(table, { take, overview, state }) {
    Object.assign(this, { table, take, overview, state, busy: false, due: false, rest: 0 });
  }

  /** Reads everything, and follows from then on. */
  async start() {
    await this._fetch();
    this._listen();
  }

  _listen() {
    const source = new EventSource("/api/events");
    source.addEventListener("open", () => this.state("live"));
    source.addEventListener("rows", (event) => {
      const told = JSON.parse(event.data);
      const { table } = this;
      if (told.epoch !== table.epoch || told.version !== table.version || told.schema !== table.schema) this._fetch();
    });
    source.addEventListener("overview", (event) => this.overview(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      source.close();
      this.state("away");
      setTimeout(() => this._again(), AGAIN);
    });
  }

  /** Looks whether the server is there again; a new token needs a new address. */
  async _again() {
    try {
      await ask("/api/overview");
      this._listen();
    } catch (error) {
      this.state(error.status === 401 ? "locked" : "away");
      setTimeout(() => this._again(), AGAIN);
    }
  }

  /** Asks for the rows since the last ones; one question at a time. */
  async _fetch() {
    if (this.busy) {
      this.due = true;
      return;
    }
    this.busy = true;
    try {
      const { epoch, version, schema } = this.table;
      const answer = await ask(`/api/columns?epoch=${epoch}&since=${version}&schema=${schema}`);
      const buffer = await answer.arrayBuffer();
      const began = performance.now();
      this.take(buffer);
      // With many trials, news come a little later rather than that the mouse waits for them.
      this.rest = Math.min(2000, 1.5 * (performance.now() - began));
    } catch (error) {
      this.state(error.status === 401 ? "locked" : "away");
    } finally {
      this.busy = false;
    }
    if (this.due) {
      this.due = false;
      setTimeout(() => this._fetch(), this.rest);
    }
  }
}
