import { TurnQueue } from '../../lib/server/queue';

const never = new AbortController().signal;

it('turns come in the order of arrival, one at a time', async () => {
  const queue = new TurnQueue(3);
  const order: string[] = [];
  let running = 0;
  const work = async (name: string) => {
    const leave = await queue.enter(never);
    expect(++running).toBe(1);
    order.push(name);
    await new Promise((resolve) => setTimeout(resolve, 5));
    running--;
    leave();
    leave(); // twice is once
  };
  await Promise.all(['a', 'b', 'c', 'd'].map(work));
  expect(order).toEqual(['a', 'b', 'c', 'd']);
  expect({ running: queue.running, length: queue.length }).toEqual({ running: false, length: 0 });
});

it('whoever comes between the end of a turn and the next is behind those that wait', async () => {
  const queue = new TurnQueue(2);
  const order: string[] = [];
  const leave = await queue.enter(never);
  const second = queue.enter(never).then((done) => {
    order.push('waited');
    done();
  });
  leave();
  const third = queue.enter(never).then((done) => {
    order.push('came later');
    done();
  });
  await Promise.all([second, third]);
  expect(order).toEqual(['waited', 'came later']);
});

it('no more may wait than the bound says, and places come free when who waits goes away', async () => {
  const queue = new TurnQueue(2);
  const leave = await queue.enter(never);
  const gone = new AbortController();
  const first = queue.enter(gone.signal);
  const second = queue.enter(never);
  await expect(queue.enter(never)).rejects.toMatchObject({ code: 'QUEUE_FULL', status: 429 });
  expect(() => queue.checkRoom()).toThrow(/2 requests wait already/);
  gone.abort(new Error('gone'));
  await expect(first).rejects.toThrow('gone');
  expect(queue.length).toBe(1);
  const third = queue.enter(never);
  leave();
  (await second)();
  (await third)();
  expect(queue.running).toBe(false);
});

it('a bound of zero lets one run and none wait', async () => {
  const queue = new TurnQueue(0);
  const leave = await queue.enter(never);
  await expect(queue.enter(never)).rejects.toMatchObject({ code: 'QUEUE_FULL' });
  leave();
  (await queue.enter(never))();
});

it('says when to come again by how long turns took', async () => {
  const queue = new TurnQueue(0);
  const now = jest.spyOn(performance, 'now');
  try {
    let time = 0;
    now.mockImplementation(() => time);
    for (let i = 0; i < 50; i++) {
      const leave = await queue.enter(never);
      time += 20_000;
      leave();
    }
    await queue.enter(never);
    time += 5_000;
    await expect(queue.enter(never)).rejects.toMatchObject({ retryAfter: 15 });
    time += 60_000;
    await expect(queue.enter(never)).rejects.toMatchObject({ retryAfter: 1 });
  } finally {
    now.mockRestore();
  }
});

it('closed, it refuses who waits and who comes, and lets the running one end', async () => {
  const queue = new TurnQueue(2);
  const leave = await queue.enter(never);
  const waiting = queue.enter(never);
  queue.close();
  await expect(waiting).rejects.toMatchObject({ code: 'SERVER_ENDING', status: 503 });
  await expect(queue.enter(never)).rejects.toMatchObject({ code: 'SERVER_ENDING' });
  expect(queue.running).toBe(true);
  leave();
  expect(queue.running).toBe(false);
});
