// A node that shows a token and asks who is connected: `node login.mjs alice north`.
// Needs the official client (`npm install socket.io-client`) and a broker on port 8080, or at the URL given third.
import { io } from "socket.io-client";

const [id, token, broker = "http://127.0.0.1:8080"] = process.argv.slice(2);
const query = { id, version: "1.0.0", runtime: "node", data: JSON.stringify({ token }) };
const socket = io(broker, { transports: ["websocket"], query });
socket.on("connect_error", (error) => {
  console.log(error.message);
  if (!socket.active) process.exit(1); // the broker has refused this node for good
});
socket.on("AUTHENTICATED", async () => {
  console.log(`connected as ${id}`);
  const question = JSON.stringify({ ids: [id, "nobody"] });
  console.log(await socket.emitWithAck("ARE_NODES_CONNECTED_TO_BROKER", question));
  socket.close();
});
