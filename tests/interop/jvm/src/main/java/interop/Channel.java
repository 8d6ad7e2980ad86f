package interop;

import dev.onvoid.webrtc.*;
import dev.onvoid.webrtc.media.audio.AudioDeviceModule;
import dev.onvoid.webrtc.media.audio.AudioLayer;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.json.JSONObject;

/** One side of a direct connection between two nodes, negotiated through the broker. */
final class Channel implements PeerConnectionObserver {
    /** A machine for tests has no sound, without which the factory ends the process. */
    private static final PeerConnectionFactory FACTORY =
        new PeerConnectionFactory(new AudioDeviceModule(AudioLayer.kDummyAudio));

    private final Node node;
    private final String other;
    private final String session;
    private final String candidates;
    private final RTCPeerConnection connection;
    private final CompletableFuture<RTCDataChannel> open = new CompletableFuture<>();
    private final BlockingQueue<String> heard = new LinkedBlockingQueue<>();
    /** Candidates of the other side that came before its description. */
    private final List<RTCIceCandidate> early = new ArrayList<>();
    private boolean isDescribed;

    private Channel(Node node, String other, String session, String mine, String theirs) {
        this.node = node;
        this.other = other;
        this.session = session;
        this.candidates = mine;
        // The servers are public: nobody asks them here, the two are on one machine.
        connection = FACTORY.createPeerConnection(new RTCConfiguration(), this);
        node.on(theirs, message -> {
            JSONObject json = message.getJSONObject("candidate");
            add(new RTCIceCandidate(json.getString("sdpMid"), json.getInt("sdpMLineIndex"), json.getString("sdp")));
        });
    }

    /** Begins a connection. */
    static Channel open(Node node, String other) throws Exception {
        Channel channel = new Channel(node, other, "session-" + node.id,
            "ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER", "ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR");
        channel.use(channel.connection.createDataChannel("crolang", new RTCDataChannelInit()));
        RTCSessionDescription offer = created(made -> channel.connection.createOffer(new RTCOfferOptions(), made));
        // The attempt goes first: it opens the pair for the candidates that follow.
        channel.tell("CONNECTION_ATTEMPT", offer);
        set(done -> channel.connection.setLocalDescription(offer, done));
        channel.describe(node.next("CONNECTION_ACCEPTANCE"), RTCSdpType.ANSWER);
        return channel.opened();
    }

    /** Answers the next attempt of another node. */
    static Channel accept(Node node) throws Exception {
        JSONObject attempt = node.next("CONNECTION_ATTEMPT");
        Channel channel = new Channel(node, attempt.getString("from"), attempt.getString("sessionId"),
            "ICE_CANDIDATES_EXCHANGE_RESPONDER_TO_INITIATOR", "ICE_CANDIDATES_EXCHANGE_INITIATOR_TO_RESPONDER");
        channel.describe(attempt, RTCSdpType.OFFER);
        RTCSessionDescription answer = created(made -> channel.connection.createAnswer(new RTCAnswerOptions(), made));
        channel.tell("CONNECTION_ACCEPTANCE", answer);
        set(done -> channel.connection.setLocalDescription(answer, done));
        return channel.opened();
    }

    private Channel opened() throws Exception {
        open.get(Node.LIMIT_SECONDS, TimeUnit.SECONDS);
        return this;
    }

    private JSONObject message() {
        return node.to(other).put("sessionId", session);
    }

    private void tell(String event, RTCSessionDescription description) throws Exception {
        JSONObject json = new JSONObject()
            .put("type", description.sdpType.toString().toLowerCase()).put("sdp", description.sdp);
        Examples.equal("OK", node.ask(event, message().put("sessionDescription", json)), event);
    }

    private void describe(JSONObject message, RTCSdpType type) throws Exception {
        String sdp = message.getJSONObject("sessionDescription").getString("sdp");
        set(done -> connection.setRemoteDescription(new RTCSessionDescription(type, sdp), done));
        synchronized (early) {
            isDescribed = true;
            early.forEach(connection::addIceCandidate);
        }
    }

    private void add(RTCIceCandidate candidate) {
        synchronized (early) {
            if (isDescribed) connection.addIceCandidate(candidate);
            else early.add(candidate);
        }
    }

    @Override
    public void onIceCandidate(RTCIceCandidate candidate) {
        JSONObject json = new JSONObject()
            .put("sdp", candidate.sdp).put("sdpMid", candidate.sdpMid).put("sdpMLineIndex", candidate.sdpMLineIndex);
        node.send(candidates, message().put("candidate", json));
    }

    @Override
    public void onDataChannel(RTCDataChannel channel) {
        use(channel);
    }

    private void use(RTCDataChannel channel) {
        channel.registerObserver(new RTCDataChannelObserver() {
            @Override
            public void onBufferedAmountChange(long before) {}

            @Override
            public void onStateChange() {
                if (channel.getState() == RTCDataChannelState.OPEN) open.complete(channel);
            }

            @Override
            public void onMessage(RTCDataChannelBuffer buffer) {
                heard.add(StandardCharsets.UTF_8.decode(buffer.data).toString());
            }
        });
        // It may have opened before anybody observed it.
        if (channel.getState() == RTCDataChannelState.OPEN) open.complete(channel);
    }

    void say(String text) throws Exception {
        ByteBuffer bytes = ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
        open.get().send(new RTCDataChannelBuffer(bytes, false));
    }

    String heard() throws Exception {
        return Node.some(heard.poll(Node.LIMIT_SECONDS, TimeUnit.SECONDS), "a message over the channel");
    }

    private interface Step<T> {
        void take(T observer);
    }

    private static RTCSessionDescription created(Step<CreateSessionDescriptionObserver> step) throws Exception {
        CompletableFuture<RTCSessionDescription> made = new CompletableFuture<>();
        step.take(new CreateSessionDescriptionObserver() {
            @Override
            public void onSuccess(RTCSessionDescription description) {
                made.complete(description);
            }

            @Override
            public void onFailure(String error) {
                made.completeExceptionally(new Exception(error));
            }
        });
        return made.get(Node.LIMIT_SECONDS, TimeUnit.SECONDS);
    }

    private static void set(Step<SetSessionDescriptionObserver> step) throws Exception {
        CompletableFuture<Void> done = new CompletableFuture<>();
        step.take(new SetSessionDescriptionObserver() {
            @Override
            public void onSuccess() {
                done.complete(null);
            }

            @Override
            public void onFailure(String error) {
                done.completeExceptionally(new Exception(error));
            }
        });
        done.get(Node.LIMIT_SECONDS, TimeUnit.SECONDS);
    }
}
