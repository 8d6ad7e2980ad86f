package interop;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.json.JSONArray;
import org.json.JSONObject;

/**
 * What the official examples show, one method each: {@code java interop.Examples NAME URL URL}. The two addresses are of
 * one broker, or of two replicas. Exit code 0 means that all went as it should.
 */
public final class Examples {
    private final String here;
    private final String there;

    private Examples(String here, String there) {
        this.here = here;
        this.there = there;
    }

    public static void main(String[] arguments) {
        Examples examples = new Examples(arguments[1], arguments[2]);
        try {
            examples.run(arguments[0]);
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        System.out.println("passed");
        // Threads of the libraries would keep the process alive.
        Runtime.getRuntime().halt(0);
    }

    private void run(String name) throws Exception {
        switch (name) {
            case "connect": connect(); break;
            case "direct": direct(); break;
            case "refusals": refusals(); break;
            case "presence": presence(); break;
            case "messages": messages(); break;
            case "large": large(); break;
            case "duplicates": duplicates(); break;
            case "reconnect": reconnect(); break;
            case "authentication": authentication(); break;
            case "plus": plus(); break;
            case "platform": platform(); break;
            default: throw new IllegalArgumentException(name);
        }
    }

    /** A node connects, gets a configuration that it can read, leaves, and may come again at once. */
    private void connect() throws Exception {
        for (int round = 0; round < 3; round++) {
            try (Node alice = Node.connect(round == 1 ? there : here, "alice")) {
                JSONObject configuration = new JSONObject(alice.rtcConfiguration);
                JSONArray servers = configuration.getJSONArray("iceServers");
                check(!servers.isEmpty(), "servers");
                for (Object server : servers) check(!((JSONObject) server).getJSONArray("urls").isEmpty(), "urls");
                for (String policy : new String[] {"iceTransportPolicy", "bundlePolicy", "rtcpMuxPolicy"}) {
                    configuration.getString(policy);
                }
                configuration.getInt("iceCandidatePoolSize");
            }
            // A close is not awaited by the client, so the ID may still be held for a moment.
            await("alice has left", () -> {
                try (Node bob = Node.connect(here, "bob")) {
                    return !bob.isConnected("alice");
                } catch (Node.Refused stillThere) {
                    return false;
                }
            });
        }
    }

    /** Three nodes open channels to each other, and these outlive the connections to the broker. */
    private void direct() throws Exception {
        try (Node alice = Node.connect(here, "alice"); Node bob = Node.connect(there, "bob");
                Node carol = Node.connect(here, "carol")) {
            Channel[] aliceAndBob = channel(alice, bob);
            Channel[] bobAndCarol = channel(bob, carol);
            for (Node node : new Node[] {alice, bob, carol}) node.close();
            for (Channel[] pair : new Channel[][] {aliceAndBob, bobAndCarol}) {
                pair[0].say("hello");
                equal("hello", pair[1].heard(), "over the channel");
                pair[1].say("y".repeat(60_000));
                equal(60_000, pair[0].heard().length(), "length over the channel");
            }
        }
    }

    private static Channel[] channel(Node from, Node to) throws Exception {
        CompletableFuture<Channel> accepted = new CompletableFuture<>();
        Thread answering = new Thread(() -> {
            try {
                accepted.complete(Channel.accept(to));
            } catch (Throwable error) {
                accepted.completeExceptionally(error);
            }
        });
        answering.start();
        Channel opened = Channel.open(from, to.id);
        return new Channel[] {opened, accepted.get(Node.LIMIT_SECONDS, TimeUnit.SECONDS)};
    }

    /** Bob takes no connections, then refuses one; Carol is not there. */
    private void refusals() throws Exception {
        try (Node alice = Node.connect(here, "alice"); Node bob = Node.connect(there, "bob")) {
            for (String answer : new String[] {"INCOMING_CONNECTIONS_NOT_ALLOWED", "CONNECTION_REFUSAL"}) {
                JSONObject offer = new JSONObject().put("type", "offer").put("sdp", "v=0");
                JSONObject attempt = alice.to("bob").put("sessionId", answer).put("sessionDescription", offer);
                equal("OK", alice.ask("CONNECTION_ATTEMPT", attempt), "attempt");
                equal(attempt.toMap(), bob.next("CONNECTION_ATTEMPT").toMap(), "attempt");
                equal("OK", bob.ask(answer, bob.to("alice").put("sessionId", answer)), answer);
                equal(answer, alice.next(answer).getString("sessionId"), answer);
            }
            equal("NOT_CONNECTED", alice.ask("CONNECTION_ATTEMPT", alice.to("carol")), "attempt");
        }
    }

    private void presence() throws Exception {
        try (Node alice = Node.connect(here, "alice")) {
            check(alice.isConnected("alice"), "alice");
            check(!alice.isConnected("bob"), "bob is not there yet");
            try (Node bob = Node.connect(there, "bob")) {
                check(alice.isConnected("bob"), "bob");
                check(bob.isConnected("alice"), "alice, for bob");
            }
            await("bob has left", () -> !alice.isConnected("bob"));
        }
    }

    private void messages() throws Exception {
        try (Node alice = Node.connect(here, "alice"); Node bob = Node.connect(there, "bob")) {
            for (String content : new String[] {"hello", "", "grüße 🙂 \"\\ \u2028 \n", "{\"a\":1}"}) {
                equal("OK", alice.say("bob", content), content);
                equal(content, bob.heard(), content);
                equal("OK", bob.say("alice", content), content);
                equal(content, alice.heard(), content);
            }
            equal("NOT_CONNECTED", alice.say("carol", "x"), "to nobody");
            equal("ERROR", alice.ask("SOCKET_MSG_EXCHANGE", bob.to("bob")), "in another's name");
            for (int number = 0; number < 500; number++) {
                alice.send("SOCKET_MSG_EXCHANGE", alice.to("bob").put("content", "" + number));
            }
            for (int number = 0; number < 500; number++) equal("" + number, bob.heard(), "order");
        }
    }

    /** Close below the limit of 1,000,000 bytes, and over it. */
    private void large() throws Exception {
        try (Node alice = Node.connect(here, "alice"); Node bob = Node.connect(there, "bob")) {
            String content = "x".repeat(900_000);
            equal("OK", alice.say("bob", content), "large message");
            equal(content, bob.heard(), "large message");
            alice.send("SOCKET_MSG_EXCHANGE", alice.to("bob").put("content", "x".repeat(1_100_000)));
            alice.reconnected();
            equal("OK", alice.say("bob", "back"), "after a message that was too large");
            equal("back", bob.heard(), "what came");
        }
    }

    private void duplicates() throws Exception {
        try (Node alice = Node.connect(here, "alice"); Node bob = Node.connect(there, "bob")) {
            equal("client already connected", refusal(there, "alice", ""), "the second one");
            equal("OK", bob.say("alice", "still you?"), "to the first one");
            equal("still you?", alice.heard(), "for the first one");
        }
    }

    /** The test that runs this restarts the broker once it reads "connected". */
    private void reconnect() throws Exception {
        try (Node alice = Node.connect(here, "alice"); Node bob = Node.connect(there, "bob")) {
            System.out.println("connected");
            equal(alice.rtcConfiguration, alice.reconnected(), "configuration");
            if (here.equals(there)) bob.reconnected();
            await("bob is there", () -> alice.isConnected("bob"));
            equal("OK", alice.say("bob", "back"), "after the restart");
            equal("back", bob.heard(), "after the restart");
        }
    }

    private void authentication() throws Exception {
        try (Node alice = Node.connect(here, "alice", "{\"token\":\"secret\"}")) {
            equal("authentication failed", refusal(here, "bob", "{\"token\":\"wrong\"}"), "wrong token");
            check(alice.isConnected("alice"), "alice");
        }
    }

    /** The query is not encoded, so the plus becomes a blank on the way. */
    private void plus() throws Exception {
        try (Node alice = Node.connect(here, "+39333"); Node bob = Node.connect(there, "bob")) {
            equal("OK", alice.say("bob", "hello"), "with its own ID as the sender");
            equal("+39333", bob.next("SOCKET_MSG_EXCHANGE").getString("from"), "sender");
            equal("OK", bob.say("+39333", "hello"), "to an ID with a plus");
            equal("hello", alice.heard(), "for an ID with a plus");
            check(bob.isConnected("+39333"), "presence");
        }
    }

    private void platform() throws Exception {
        equal("unsupported architecture", refusal(here, "alice", ""), "on this platform");
    }

    private static String refusal(String url, String id, String data) throws Exception {
        try (Node node = Node.connect(url, id, data)) {
            return "connected";
        } catch (Node.Refused refused) {
            return refused.getMessage();
        }
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void await(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(Node.LIMIT_SECONDS);
        while (!condition.holds()) {
            check(System.nanoTime() < end, what);
            Thread.sleep(20);
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void equal(Object expected, Object actual, String what) {
        if (!expected.equals(actual)) throw new AssertionError(what + ": " + actual + " instead of " + expected);
    }
}
