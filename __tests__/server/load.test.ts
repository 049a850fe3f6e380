import * as tf from '@tensorflow/tfjs';
import { load, mixed } from '../../bench/server_load';
import { rightRequests, wrongRequests } from '../../bench/server_requests';
import { loadTiny, metric, NAME, startServer, until } from './support';

/** `npm run bench:server` is the larger one, with the program as a process of its own. */
it('under load, with malformed and huge requests and clients that go away, every reply is right and no tensor is left', async () => {
  const model = await loadTiny();
  const maxBodyBytes = 1_000_000;
  const { server, at, lines } = await startServer(model, { conversations: 0, maxBodyBytes });
  try {
    const right = await rightRequests(model, NAME);
    const wrong = wrongRequests(NAME, maxBodyBytes);
    const before = tf.memory();
    const requests = mixed([...right, ...right, ...wrong.filter(({ kind }) => kind === 'malformed')], 34);
    const others = mixed([...right.slice(0, 8), ...wrong.filter(({ kind }) => kind === 'huge')], 9);
    const { observed, errors } = await load(at.url, requests, others, 6);
    await until(async () => (await metric(at, 'vispruner_requests_in_flight')) + (await metric(at, 'vispruner_queue_length')) === 0);
    expect(errors).toBe(0);
    expect(observed).toHaveLength(43);
    const count = (verdict: string) => observed.filter((one) => one.verdict === verdict).length;
    expect({ wrong: count('wrong'), busy: count('busy'), refused: count('refused') }).toEqual({ wrong: 0, busy: 0, refused: 11 });
    expect(count('answered') + count('aborted')).toBe(32);
    expect(lines.filter((line) => / 50\d /.test(line))).toEqual([]);
    const { numTensors, numBytes } = tf.memory();
    expect({ numTensors, numBytes }).toEqual({ numTensors: before.numTensors, numBytes: before.numBytes });
  } finally {
    await server.close();
    model.dispose();
  }
});
