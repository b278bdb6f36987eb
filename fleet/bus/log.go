package bus

import (
	"fmt"
	"log/slog"
	"sync/atomic"
)

// serverLog hands nats-server's words to slog and keeps the last complaint,
// which is all that the server gives as the cause when it does not start.
type serverLog struct {
	log       *slog.Logger
	complaint atomic.Pointer[string]
	// heard is told every line of trouble; it must not wait.
	heard func(line string)
}

func (l *serverLog) last() string {
	if p := l.complaint.Load(); p != nil {
		return *p
	}
	return "it gave no cause"
}

func (l *serverLog) keep(format string, v []any) string {
	text := fmt.Sprintf(format, v...)
	l.complaint.Store(&text)
	l.heard(text)
	return text
}

func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(l.keep(format, v)) }
func (l *serverLog) Fatalf(format string, v ...any)  { l.log.Error(l.keep(format, v)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Error(l.keep(format, v)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l *serverLog) Tracef(format string, v ...any)  { l.log.Debug(fmt.Sprintf(format, v...)) }
