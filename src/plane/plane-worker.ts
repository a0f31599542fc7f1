/** A worker thread's entry: one data plane, which does as the main thread's messages say (plane-messages.ts). */
import { parentPort, workerData } from 'node:worker_threads'

import { Plane } from './plane.ts'
import { plainError, type Report, type Request, type WorkerStart } from './plane-messages.ts'
import { WorkerLog } from './worker-log.ts'

const { options, queue, rules, module, sockets, debugEnabled, known, names, pendingLines, answered, answers } =
  workerData as WorkerStart
const port = parentPort!
const tell = (report: Report) => port.postMessage(report)

const log = new WorkerLog(pendingLines, line => tell({ log: line }))

const plane = new Plane({
  options,
  queue,
  rules,
  module,
  sockets,
  known,
  ...(names && { names }),
  log: log.lines('plane', debugEnabled),
  upstreamLog: log.lines('upstream', debugEnabled),
  onTrap: error => tell({ trapped: plainError(error) }),
  onFatal: error => tell({ failed: plainError(error) }),
})

port.on('message', async (request: Request) => {
  if ('close' in request) {
    await plane.close()
    // a look-up that is under way would keep the thread
    process.exit()
  }
  if ('rules' in request) {
    // the main thread has read them before; a script that has changed since is told by this thread
    await plane
      .useRules(request.rules)
      .catch(error => log.lines('plane', debugEnabled).error(plainError(error).message))
    return
  }
  answers.postMessage(request.ask === 'counters' ? { counters: plane.counters() } : { flows: plane.flows() })
  Atomics.store(answered, 0, request.number)
  Atomics.notify(answered, 0)
})

try {
  await plane.start()
  tell({ started: true })
} catch (error) {
  tell({ failed: plainError(error) })
}
