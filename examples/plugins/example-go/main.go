// A provider plugin for loomproxy with nothing but Go's standard library (1.19 or later).
//
// loomproxy starts this program and tells it by its environment where to listen
// (LOOM_PLUGIN_SOCKET, or LOOM_PLUGIN_HOST and LOOM_PLUGIN_PORT) and which token each call must
// show (LOOM_PLUGIN_TOKEN). Then it makes six calls: metadata, initialize, health, models,
// chat/completions and cleanup. `loomproxy plugins test .` holds this file to all of it.
//
// Where your own provider comes in: models, configure and words. The rest can stay.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"
)

const bodyBytesMax = 8 << 20

type object = map[string]any

var metadata = object{
	"name":               "example-go",
	"version":            "1.0.0",
	"plugin_api_version": "1.0.0",
	"provider_type":      "example-go", // the same as in plugin.yaml
	"description":        "Greets whoever writes to it, word by word.",
	"capabilities":       object{"streaming": true},
	"config_schema": []object{
		{"name": "greeting", "type": "string", "default": "Hello",
			"validation": object{"min_length": 1, "max_length": 100}},
		{"name": "delay_ms", "type": "int", "default": 0,
			"validation": object{"min": 0, "max": 10000}},
	},
}

var models = []object{{
	"id": "greeter-1", "name": "Greeter", "context_window": 8192,
	"capabilities": object{"streaming": true},
}}

// PluginError is what goes wrong, as the contract says it. Transient: the same request may succeed
// in a moment.
type PluginError struct {
	Status    int    `json:"-"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	Transient bool   `json:"transient"`
}

func (e *PluginError) Error() string { return e.Code + ": " + e.Message }

func invalid(format string, more ...any) *PluginError {
	return &PluginError{400, "invalid_request", fmt.Sprintf(format, more...), false}
}

// --- What this plugin does ---------------------------------------------------------------------

// Config is what POST /initialize brings.
type Config struct {
	Greeting string `json:"greeting"`
	DelayMS  int    `json:"delay_ms"`
}

var config atomic.Pointer[Config] // nil until POST /initialize

// configure checks the configuration. loomproxy has checked it, too; this is for who runs it by hand.
func configure(body []byte) (*Config, error) {
	given := &Config{Greeting: "Hello"}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(given); err != nil {
		return nil, invalid("the configuration: %v", err)
	}
	if length := utf8.RuneCountInString(given.Greeting); length < 1 || length > 100 {
		return nil, invalid("greeting: must be a text of 1 to 100 characters")
	}
	if given.DelayMS < 0 || given.DelayMS > 10000 {
		return nil, invalid("delay_ms: must be a whole number from 0 to 10000")
	}
	return given, nil
}

// words says the answer, a word at a time. ctx is done when the client has left: pass it on to
// whatever you wait for, as to http.NewRequestWithContext, and nobody pays for what nobody reads.
func words(ctx context.Context, c *Config, messages []Message, say func(string) error) error {
	said := append([]string{c.Greeting}, strings.Fields(messages[len(messages)-1].text())...)
	for index, word := range said {
		if c.DelayMS > 0 {
			select {
			case <-time.After(time.Duration(c.DelayMS) * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if index > 0 {
			word = " " + word
		}
		if err := say(word); err != nil {
			return err
		}
	}
	return nil
}

// usage estimates. A real provider counts its tokens and says how many they were: hand that on.
func usage(messages []Message, answer string) object {
	prompt := 0
	for _, message := range messages {
		prompt += (len(message.text()) + 3) / 4
	}
	completion := (len(answer) + 3) / 4
	return object{
		"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
	}
}

// --- The contract ------------------------------------------------------------------------------

// Message is one turn of a conversation; its content is a text, a list of parts, or null.
type Message struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

func (m Message) text() string {
	var text string
	if json.Unmarshal(m.Content, &text) == nil {
		return text
	}
	var parts []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(m.Content, &parts) // checked before
	for _, part := range parts {
		text += part.Text
	}
	return text
}

// ChatRequest has the fields that we use; others are no mistake.
type ChatRequest struct {
	Model    string    `json:"model"`
	Messages []Message `json:"messages"`
	Stream   bool      `json:"stream"`
}

func check(body []byte) (*ChatRequest, error) {
	asked := &ChatRequest{}
	if err := json.Unmarshal(body, asked); err != nil {
		return nil, invalid("the body: %v", err)
	}
	if asked.Model == "" {
		return nil, invalid("model: must be a text")
	}
	if len(asked.Messages) == 0 {
		return nil, invalid("messages: must be a list with at least one message")
	}
	for index, message := range asked.Messages {
		var parts []object
		var text string
		isText := json.Unmarshal(message.Content, &text) == nil
		if message.Role == "" || len(message.Content) > 0 && !isText && json.Unmarshal(message.Content, &parts) != nil {
			return nil, invalid("messages[%d]: must have a role, and a text or a list of parts as content", index)
		}
	}
	for _, model := range models {
		if model["id"] == asked.Model {
			return asked, nil
		}
	}
	return nil, &PluginError{404, "model_not_found", fmt.Sprintf("there is no model %.100q", asked.Model), false}
}

func chat(w http.ResponseWriter, r *http.Request) (any, error) {
	body, err := read(w, r)
	if err != nil {
		return nil, err
	}
	asked, err := check(body)
	if err != nil {
		return nil, err
	}
	c := config.Load()
	if c == nil {
		return nil, &PluginError{503, "provider_unavailable", "not initialised yet", true}
	}
	base := object{"id": newID(), "created": time.Now().Unix(), "model": asked.Model}
	if asked.Stream {
		return nil, stream(w, r, c, asked, base)
	}
	var answer strings.Builder
	err = words(r.Context(), c, asked.Messages, func(word string) error {
		answer.WriteString(word)
		return nil
	})
	if err != nil {
		return nil, err
	}
	message := object{"role": "assistant", "content": answer.String()}
	base["object"] = "chat.completion"
	base["choices"] = []object{{"index": 0, "message": message, "finish_reason": "stop"}}
	base["usage"] = usage(asked.Messages, answer.String())
	return base, nil
}

// stream sends an event per word, then one with finish_reason and usage, then [DONE].
func stream(w http.ResponseWriter, r *http.Request, c *Config, asked *ChatRequest, base object) error {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	base["object"] = "chat.completion.chunk"
	send := func(data string) error {
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
			return err
		}
		w.(http.Flusher).Flush() // or the word waits for the next
		return r.Context().Err()
	}
	chunk := func(delta object, finish any) error {
		base["choices"] = []object{{"index": 0, "delta": delta, "finish_reason": finish}}
		text, err := json.Marshal(base)
		if err != nil {
			return err
		}
		return send(string(text))
	}
	var answer strings.Builder
	err := chunk(object{"role": "assistant", "content": ""}, nil)
	if err == nil {
		err = words(r.Context(), c, asked.Messages, func(word string) error {
			answer.WriteString(word)
			return chunk(object{"content": word}, nil)
		})
	}
	if err == nil {
		base["usage"] = usage(asked.Messages, answer.String())
		err = chunk(object{}, "stop")
	}
	if err == nil {
		return send("[DONE]")
	}
	if r.Context().Err() != nil {
		return nil // the client left, and there is nobody to tell
	}
	// Too late for a status: the error is the last event, and there is no [DONE].
	text, _ := json.Marshal(object{"error": asPluginError(err)})
	return send(string(text))
}

// answer is one call: who asks, what for, and what comes of it.
func answer(w http.ResponseWriter, r *http.Request) {
	if !allowed(r) {
		fail(w, &PluginError{401, "authentication_failed", "the token is not ours", false})
		return
	}
	body, err := call(w, r)
	if err != nil {
		fail(w, err)
	} else if body != nil {
		say(w, 200, body)
	}
}

func call(w http.ResponseWriter, r *http.Request) (any, error) {
	switch r.Method + " " + r.URL.Path {
	case "GET /metadata":
		return metadata, nil
	case "GET /models":
		return models, nil
	case "GET /health": // 200 also when it is not healthy
		message := "OK"
		if config.Load() == nil {
			message = "not initialised"
		}
		at := time.Now().Format(time.RFC3339)
		return object{"healthy": config.Load() != nil, "message": message, "timestamp": at}, nil
	case "POST /initialize":
		body, err := read(w, r)
		if err != nil {
			return nil, err
		}
		given, err := configure(body)
		if err != nil {
			return nil, err
		}
		config.Store(given)
		return object{}, nil
	case "POST /cleanup":
		config.Store(nil)
		return object{}, nil
	case "POST /chat/completions":
		return chat(w, r)
	}
	return nil, &PluginError{404, "invalid_request", "there is no " + r.Method + " " + r.URL.Path, false}
}

// --- HTTP --------------------------------------------------------------------------------------

func say(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever left does not hear it
}

func fail(w http.ResponseWriter, err error) {
	told := asPluginError(err)
	say(w, told.Status, told)
}

// asPluginError makes any error one; what we did not foresee is told to the log, not to the client.
func asPluginError(err error) *PluginError {
	var told *PluginError
	if errors.As(err, &told) {
		return told
	}
	log.Print(err)
	return &PluginError{500, "internal_error", "the plugin failed; its log says why", false}
}

var token = os.Getenv("LOOM_PLUGIN_TOKEN")

// allowed says whether a call shows our token; the comparison takes as long for any wrong one.
func allowed(r *http.Request) bool {
	shown := sha256.Sum256([]byte(r.Header.Get("Authorization")))
	ours := sha256.Sum256([]byte("Bearer " + token))
	return token == "" || subtle.ConstantTimeCompare(shown[:], ours[:]) == 1
}

// read takes the body of a request, which must be a JSON object.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytesMax))
	if err != nil {
		return nil, &PluginError{413, "invalid_request", fmt.Sprintf("the body: %v", err), false}
	}
	var any object
	if json.Unmarshal(body, &any) != nil || any == nil {
		return nil, invalid("the body is no JSON object")
	}
	return body, nil
}

func newID() string {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // it ends the program rather than fail
	return "chatcmpl-" + hex.EncodeToString(id)
}

func listen() (net.Listener, error) {
	if socket := os.Getenv("LOOM_PLUGIN_SOCKET"); socket != "" {
		syscall.Umask(0o077) // the socket is for our own user only
		_ = os.Remove(socket)
		return net.Listen("unix", socket)
	}
	host, port := os.Getenv("LOOM_PLUGIN_HOST"), os.Getenv("LOOM_PLUGIN_PORT")
	if port == "" {
		host, port = "127.0.0.1", "8090"
	}
	return net.Listen("tcp", net.JoinHostPort(host, port))
}

func main() {
	log.SetFlags(0) // loomproxy's log says when
	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(answer), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { // Finish what is under way, then leave. loomproxy sends SIGKILL after stop_timeout.
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		<-told
		_ = server.Shutdown(context.Background())
		close(done)
	}()
	log.Printf("listening on %s", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-done
}
