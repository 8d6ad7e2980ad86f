package interop;

import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import io.socket.engineio.client.transports.WebSocket;
import java.net.URI;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.json.JSONObject;

/**
 * A node on the JVM as the official one behaves on the wire: the query is a text put together without any encoding,
 * each event is one JSON text with an ack, and a lost connection is made anew with a new socket, but not after a refusal.
 */
final class Node implements AutoCloseable {
    static final long LIMIT_SECONDS = 20;
    private static final long RECONNECT_MS = 200;

    final String id;
    private final String url;
    private final String data;
    private final Map<String, BlockingQueue<JSONObject>> arrived = new ConcurrentHashMap<>();
    private final Map<String, Consumer<JSONObject>> handlers = new ConcurrentHashMap<>();
    private final BlockingQueue<String> configurations = new LinkedBlockingQueue<>();
    private volatile Socket socket;
    private volatile boolean isLeaving;
    volatile String rtcConfiguration;

    /** The broker's refusal: its message. */
    static final class Refused extends Exception {
        Refused(String message) {
            super(message);
        }
    }

    private Node(String url, String id, String data) {
        this.url = url;
        this.id = id;
        this.data = data;
    }

    static Node connect(String url, String id) throws Exception {
        return connect(url, id, "");
    }

    /** Connects and waits for the RTC configuration. */
    static Node connect(String url, String id, String data) throws Exception {
        Node node = new Node(url, id, data);
        CompletableFuture<String> outcome = new CompletableFuture<>();
        node.open(outcome);
        try {
            node.rtcConfiguration = outcome.get(LIMIT_SECONDS, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            node.close();
            throw (Exception) error.getCause();
        }
        return node;
    }

    private void open(CompletableFuture<String> first) {
        IO.Options options = IO.Options.builder()
            .setReconnection(false)
            .setForceNew(true)
            .setTransports(new String[] {WebSocket.NAME})
            .setQuery("id=" + id + "&version=0.2.2&runtime=JVM&data=" + data)
            .build();
        Socket opened = IO.socket(URI.create(url), options);
        socket = opened;
        opened.on("AUTHENTICATED", arguments -> {
            if (!first.complete((String) arguments[0])) configurations.add((String) arguments[0]);
        });
        opened.on(Socket.EVENT_CONNECT_ERROR, arguments -> {
            opened.close();
            Object cause = arguments[0];
            Exception error = cause instanceof JSONObject
                ? new Refused(((JSONObject) cause).getString("message"))
                : new Exception(String.valueOf(cause));
            // At its first connect a node gives up; later it tries again unless it was refused.
            if (!first.completeExceptionally(error) && !(error instanceof Refused)) reopen();
        });
        opened.on(Socket.EVENT_DISCONNECT, arguments -> reopen());
        for (String event : new String[] {
            "CONNECTION_ATTEMPT", "CONNECTION_ACCEPTANCE", "CONNECTION_REFUSAL", "INCOMING_CONNECTIONS_NOT_ALLOWED",
            "ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER", "ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR",
            "SOCKET_MSG_EXCHANGE"}) {
            opened.on(event, arguments -> take(event, new JSONObject((String) arguments[0])));
        }
        opened.connect();
    }

    private void reopen() {
        if (isLeaving) return;
        CompletableFuture<String> done = new CompletableFuture<>();
        done.complete("");
        CompletableFuture.delayedExecutor(RECONNECT_MS, TimeUnit.MILLISECONDS).execute(() -> {
            if (!isLeaving) open(done);
        });
    }

    /** Waits until it has reconnected; returns the configuration that came with that. */
    String reconnected() throws Exception {
        return some(configurations.poll(LIMIT_SECONDS, TimeUnit.SECONDS), id + " reconnects");
    }

    /** Calls {@code handler} for each message of this event from now on. */
    void on(String event, Consumer<JSONObject> handler) {
        handlers.put(event, handler);
    }

    private void take(String event, JSONObject message) {
        Consumer<JSONObject> handler = handlers.get(event);
        if (handler != null) handler.accept(message);
        else arrivals(event).add(message);
    }

    private BlockingQueue<JSONObject> arrivals(String event) {
        return arrived.computeIfAbsent(event, key -> new LinkedBlockingQueue<>());
    }

    /** The oldest message of this event that was not taken yet. */
    JSONObject next(String event) throws Exception {
        return some(arrivals(event).poll(LIMIT_SECONDS, TimeUnit.SECONDS), event + " for " + id);
    }

    /** What every message of this node begins with. */
    JSONObject to(String receiver) {
        return new JSONObject()
            .put("platformFrom", "JVM").put("versionFrom", "0.2.2").put("from", id).put("to", receiver);
    }

    /** Sends a message without waiting. */
    CompletableFuture<String> send(String event, JSONObject message) {
        CompletableFuture<String> answer = new CompletableFuture<>();
        socket.emit(event, new Object[] {message.toString()}, (Ack) values -> answer.complete((String) values[0]));
        return answer;
    }

    /** Sends a message and returns its ack. */
    String ask(String event, JSONObject message) throws Exception {
        return send(event, message).get(LIMIT_SECONDS, TimeUnit.SECONDS);
    }

    String say(String receiver, String content) throws Exception {
        return ask("SOCKET_MSG_EXCHANGE", to(receiver).put("channel", "chat").put("content", content));
    }

    String heard() throws Exception {
        return next("SOCKET_MSG_EXCHANGE").getString("content");
    }

    boolean isConnected(String other) throws Exception {
        String answer = ask("ARE_NODES_CONNECTED_TO_BROKER", new JSONObject().append("ids", other));
        JSONObject result = new JSONObject(answer).getJSONArray("results").getJSONObject(0);
        if (!other.equals(result.getString("id"))) throw new AssertionError(answer);
        return result.getBoolean("connected");
    }

    @Override
    public void close() {
        isLeaving = true;
        socket.close();
    }

    static <T> T some(T value, String what) {
        if (value == null) throw new AssertionError(what + ": not within " + LIMIT_SECONDS + " s");
        return value;
    }
}
