// Two people who talk through the broker: `node chat.mjs alice bob` and `node chat.mjs bob alice`, a line each.
// Needs the official client (`npm install socket.io-client`) and a broker on port 8080, or at the URL given third.
import { io } from "socket.io-client";

const [me, peer, broker = "http://127.0.0.1:8080"] = process.argv.slice(2);
const query = { id: me, version: "1.0.0", runtime: "node" };
const socket = io(broker, { transports: ["websocket"], query });
socket.on("AUTHENTICATED", () => console.log(`connected as ${me}`));
socket.on("connect_error", (error) => console.error(error.message));
socket.on("SOCKET_MSG_EXCHANGE", (text) => {
  const { from, content } = JSON.parse(text);
  console.log(`${from}: ${content}`);
});
process.stdin.on("data", (line) => {
  const message = { from: me, to: peer, content: `${line}`.trim() };
  socket.emit("SOCKET_MSG_EXCHANGE", JSON.stringify(message), (ack) => console.log(ack));
});
