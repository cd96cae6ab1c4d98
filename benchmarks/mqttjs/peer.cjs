// mqtt.js with its messages in LevelDB. Usage: node peer.cjs fill|drain SETTINGS.json   Talks JSON lines on stdout.
'use strict'
const fs = require('fs')
const mqtt = require('mqtt')
const levelStore = require('mqtt-level-store')

const [mode, file] = process.argv.slice(2)
const settings = JSON.parse(fs.readFileSync(file))
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n')
const manager = levelStore(settings.store)
manager.incoming.createStream() // opens the store
if (settings.sync) manager.outgoing._levelOpts.sync = true // LevelDB: fsync before the answer; it has no other door
const client = mqtt.connect(`mqtts://127.0.0.1:${settings.port}`, {
  clientId: settings.device,
  protocolVersion: 5,
  clean: false,
  reconnectPeriod: 500,
  ca: fs.readFileSync(settings.ca),
  cert: fs.readFileSync(settings.certificate),
  key: fs.readFileSync(settings.key),
  incomingStore: manager.incoming,
  outgoingStore: manager.outgoing
})
client.on('error', () => {})

function fill () {
  const { count, depth, topic, payload } = settings
  const begun = process.hrtime.bigint()
  let sent = 0
  let kept = 0
  const next = () => {
    if (sent >= count) return
    sent += 1
    const body = payload.replace('"sequence":0', `"sequence":${sent}`)
    client.publish(topic, body, { qos: 1, cbStorePut: stored }, () => {})
  }
  const stored = () => {
    kept += 1
    if (kept === count) say({ kept, seconds: Number(process.hrtime.bigint() - begun) / 1e9 })
    next()
  }
  for (let index = 0; index < depth; index++) next()
}

if (mode === 'fill') fill()
else client.on('connect', () => say({ connected: true }))
