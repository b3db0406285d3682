// The sandbox's stream of calls, which comes back by itself, and rests while nobody looks.
//
// A browser has six connections to one server, for all tabs together: a hidden page lets go of its own. What came
// meanwhile is told when it is back. A sandbox that was started anew gives the same ids to other calls, so there
// everything begins anew.

const AGAIN = 1000; // milliseconds

/**
 * Watch the stream.
 *
 * @param {object} told
 * @param {(status: object) => void} told.anew everything that is known is void; what is held now will be told.
 * @param {(call: object, isNew: boolean) => void} told.call a call; whether it came after the page had begun to look.
 * @param {(lastId: number) => void} told.clear the calls up to an id are forgotten.
 * @param {(text: string, isWell: boolean) => void} told.state what to say of the connection.
 * @param {boolean} fromNow whether what is held already is not wanted.
 */
export function watch(told, fromNow = false) {
  let stream = null;
  let startedAt = null;
  let seen = 0; // id of the last call
  let held = 0; // id of the last call that was there before

  async function connect() {
    if (document.hidden || stream) return;
    try {
      const status = await (await fetch("/api/status")).json();
      if (document.hidden || stream) return;
      if (status.started_at !== startedAt) {
        startedAt = status.started_at;
        held = status.last_id;
        seen = fromNow ? held : 0;
        told.anew(status);
      }
    } catch {
      return fail();
    }
    stream = new EventSource(`/api/stream?after=${seen}`);
    stream.onopen = () => told.state("connected", true);
    stream.onmessage = (event) => {
      const call = JSON.parse(event.data);
      seen = call.id;
      told.call(call, call.id > held);
    };
    stream.addEventListener("clear", (event) => told.clear(JSON.parse(event.data).last_id));
    stream.onerror = fail; // not by the browser's own resumption, which knows nothing of a new start
  }

  function leave() {
    stream?.close();
    stream = null;
  }

  function fail() {
    leave();
    told.state("the sandbox does not answer; trying again", false);
    setTimeout(connect, AGAIN);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : connect()));
  connect();
}
