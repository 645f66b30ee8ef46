// Reads request streams with Go's net/http server and says what it made of them: one base64 line in, one JSON line out.
// The connection is in memory, so that it is known whether the server refused or only wanted more bytes.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

type message struct {
	Method string      `json:"method"`
	Target string      `json:"target"`
	Minor  int         `json:"minor"`
	Fields [][2]string `json:"fields"`
	Body   string      `json:"body"`
}

type reading struct {
	Messages []message `json:"messages"`
	End      string    `json:"end"`
	Why      string    `json:"why"`
}

// One stream. Reads of a single byte are the server's watch for a client that goes away: they wait until it ends the watch.
type stream struct {
	mu      sync.Mutex
	changed *sync.Cond
	data    []byte
	at      int
	out     bytes.Buffer
	starved bool
	expired bool
	closed  bool
	done    chan struct{}
	result  reading
	broken  bool
}

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return 0, net.ErrClosed
		}
		if s.expired {
			return 0, os.ErrDeadlineExceeded
		}
		if len(p) != 1 {
			if s.at == len(s.data) {
				s.starved = true
				return 0, io.EOF
			}
			n := copy(p, s.data[s.at:])
			s.at += n
			return n, nil
		}
		s.changed.Wait()
	}
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	s.changed.Broadcast()
	return nil
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expired = !t.IsZero() && t.Before(time.Now())
	s.changed.Broadcast()
	return nil
}

type address struct{}

func (address) Network() string { return "tcp" }
func (address) String() string  { return "127.0.0.1:1" }

func (s *stream) LocalAddr() net.Addr              { return address{} }
func (s *stream) RemoteAddr() net.Addr             { return address{} }
func (s *stream) SetDeadline(t time.Time) error    { return s.SetReadDeadline(t) }
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

type streams chan net.Conn

func (l streams) Accept() (net.Conn, error) {
	s, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return s, nil
}
func (l streams) Close() error   { return nil }
func (l streams) Addr() net.Addr { return address{} }

type key struct{}

func latin1(b []byte) string {
	out := make([]rune, len(b))
	for i, c := range b {
		out[i] = rune(c)
	}
	return string(out)
}

func serve(w http.ResponseWriter, r *http.Request) {
	s := r.Context().Value(key{}).(*stream)
	body, err := io.ReadAll(r.Body)
	w.Header().Set("X-Ours", "1")
	if err != nil {
		s.broken = true
		s.result.Why = err.Error()
		panic(http.ErrAbortHandler)
	}
	fields := [][2]string{}
	for name, values := range r.Header {
		for _, value := range values {
			fields = append(fields, [2]string{strings.ToLower(name), latin1([]byte(value))})
		}
	}
	sort.SliceStable(fields, func(a, b int) bool { return fields[a][0] < fields[b][0] })
	s.result.Messages = append(s.result.Messages, message{r.Method, latin1([]byte(r.RequestURI)), r.ProtoMinor, fields, latin1(body)})
}

func (s *stream) judge() {
	last := s.out.Bytes()
	if at := bytes.LastIndex(last, []byte("HTTP/1.1 ")); at >= 0 {
		last = last[at:]
	}
	refused := len(last) > 0 && !bytes.Contains(last, []byte("\r\nX-Ours: 1\r\n")) && !bytes.HasPrefix(last, []byte("HTTP/1.1 100 "))
	if refused {
		s.result.Why = string(bytes.SplitN(last, []byte("\r\n"), 2)[0])
		if at := bytes.Index(last, []byte("\r\n\r\n")); at >= 0 {
			s.result.Why = string(last[at+4:])
		}
	}
	switch {
	case (refused || s.broken) && s.starved:
		s.result.End = "more"
	case refused || s.broken:
		s.result.End = "refused"
	case s.starved:
		s.result.End = "whole"
	default:
		s.result.End = "closed"
	}
}

func main() {
	log.SetOutput(io.Discard)
	listener := make(streams)
	server := &http.Server{
		Handler: http.HandlerFunc(serve),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, key{}, c.(*stream))
		},
	}
	go func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, net.ErrClosed) {
			os.Exit(1)
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for in.Scan() {
		data, err := base64.StdEncoding.DecodeString(in.Text())
		if err != nil {
			os.Exit(2)
		}
		s := &stream{data: data, done: make(chan struct{}), result: reading{Messages: []message{}}}
		s.changed = sync.NewCond(&s.mu)
		listener <- s
		<-s.done
		s.mu.Lock()
		s.judge()
		line, _ := json.Marshal(s.result)
		s.mu.Unlock()
		out.Write(line)
		out.WriteByte('\n')
	}
}
