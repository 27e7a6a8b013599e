package tray

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/agent/state"
	"berth/notify"
)

// ownPrefix begins the IDs of notifications that are the tray's own answers
// and not the agent's notices.
const ownPrefix = "tray/"

// answerID is the notification in which the tray answers.
const answerID = "answer"

// notes keeps what is on the screen in step with the agent's notices. Its
// methods return at once.
type notes struct {
	notifier Notifier
	log      *slog.Logger
	parts    sync.WaitGroup

	mu       sync.Mutex
	cards    map[string]*noted // guarded by mu
	bringing map[string]bool   // IDs that a goroutine is showing; guarded by mu
	forget   *time.Timer       // guarded by mu; nil means that the agent is there
}

// noted is a notice that is, or is about to be, on the screen.
type noted struct {
	want    notify.Notification
	pending bool // its words are not on their way yet
	done    bool // dealt with: it is not shown again
	crowded bool // there were too many others to show it
}

func newNotes(n Notifier, log *slog.Logger) *notes {
	return &notes{notifier: n, log: log, cards: make(map[string]*noted), bringing: make(map[string]bool)}
}

// wait waits for what is on its way to the screen.
func (n *notes) wait() {
	n.mu.Lock()
	n.stopForgetting()
	n.mu.Unlock()
	n.parts.Wait()
}

// follow shows what is new or says something else, and withdraws what is gone.
func (n *notes) follow(ctx context.Context, notices []state.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopForgetting()
	there := make(map[string]bool, len(notices))
	for _, notice := range notices {
		there[notice.ID] = true
		n.show(ctx, n.card(notice))
	}
	for id := range n.cards {
		if !there[id] && !strings.HasPrefix(id, ownPrefix) {
			n.drop(id)
		}
	}
}

// tell shows something of the tray's own.
func (n *notes) tell(ctx context.Context, card notify.Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	card = n.withText(card)
	card.ID = ownPrefix + card.ID
	delete(n.cards, card.ID) // the same text again is news
	n.show(ctx, card)
}

// withdraw takes away something of the tray's own.
func (n *notes) withdraw(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop(ownPrefix + id)
}

// settle marks a notification as handled: it is not shown again while
// the agent goes on publishing it.
func (n *notes) settle(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.cards[id]; c != nil {
		c.done = true
	}
}

// again lets a notification be shown again after its action failed.
func (n *notes) again(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cards, id)
}

// clearAfter withdraws everything if the agent stays away for so long: what the
// notifications say may no longer be true.
func (n *notes) clearAfter(grace time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.forget != nil {
		return
	}
	n.forget = time.AfterFunc(grace, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.forget == nil {
			return // the agent is back
		}
		for id := range n.cards {
			if !strings.HasPrefix(id, ownPrefix) {
				n.drop(id)
			}
		}
	})
}

// stopForgetting, show and drop want mu held.
func (n *notes) stopForgetting() {
	if n.forget != nil {
		n.forget.Stop()
		n.forget = nil
	}
}

func (n *notes) show(ctx context.Context, card notify.Notification) {
	c := n.cards[card.ID]
	switch {
	case c == nil:
		c = &noted{}
		n.cards[card.ID] = c
	case c.done, same(c.want, card):
		return
	}
	c.want, c.pending = card, true
	if n.bringing[card.ID] {
		return
	}
	n.bringing[card.ID] = true
	n.parts.Go(func() { n.bring(ctx, card.ID) })
}

// bring brings what there is to be seen under an ID to the screen, until that
// is there. Only one does so at a time: the last words must be the last ones.
func (n *notes) bring(ctx context.Context, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer delete(n.bringing, id)
	for c := n.cards[id]; c != nil && c.pending && ctx.Err() == nil; c = n.cards[id] {
		c.pending = false
		card := c.want
		n.mu.Unlock()
		err := n.notifier.Show(ctx, card)
		if err != nil && ctx.Err() == nil && !errors.Is(err, notify.ErrStopped) && !c.crowded {
			n.log.Warn("not shown as a notification", "notification", id, "title", card.Title, "err", err)
		}
		n.mu.Lock()
		if c.crowded = errors.Is(err, notify.ErrTooMany); c.crowded && !c.pending {
			c.want = notify.Notification{} // the next snapshot has it tried again
		}
		if n.cards[id] == nil { // withdrawn while it was on its way
			n.notifier.Close(id)
		}
	}
}

func (n *notes) drop(id string) {
	delete(n.cards, id)
	n.notifier.Close(id)
}

func same(a, b notify.Notification) bool {
	return a.ID == b.ID && a.Title == b.Title && a.Body == b.Body && a.Urgency == b.Urgency && slices.Equal(a.Actions, b.Actions)
}

// card is a notice as a notification.
func (n *notes) card(notice state.Notice) notify.Notification {
	card := notify.Notification{
		ID: notice.ID, Title: notice.Title, Body: notice.Body, Group: string(notice.Kind), Urgency: urgency(notice.Urgency),
	}
	for _, a := range notice.Actions {
		card.Actions = append(card.Actions, notify.Action{Key: keyOf(a), Label: a.Label})
	}
	return n.withText(card)
}

// withText has a click on a card's text do what its first button does.
func (n *notes) withText(card notify.Notification) notify.Notification {
	if len(card.Actions) > 0 && textIsClicked(n.notifier.Capabilities().Server) {
		card.Actions = append(card.Actions, notify.Action{Key: notify.DefaultKey, Label: card.Actions[0].Label})
	}
	return card
}

// textIsClicked reports whether a server runs the default action when the text
// is clicked. Xfce's makes a button of it, which would be there twice.
func textIsClicked(server string) bool { return !strings.Contains(strings.ToLower(server), "xfce") }

func urgency(u state.Urgency) notify.Urgency {
	switch u {
	case state.UrgencyLow:
		return notify.UrgencyLow
	case state.UrgencyCritical:
		return notify.UrgencyCritical
	default:
		return notify.UrgencyNormal
	}
}

// keyOf writes an action as the key of a button. It says all there is to know,
// so that a button works although the tray was restarted since it was shown.
func keyOf(a state.NoticeAction) string {
	values := url.Values{}
	for name, value := range map[string]string{"proxy": a.Proxy, "user": a.User, "request": a.Request, "tunnel": a.Tunnel} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if a.Confirm {
		values.Set("confirm", "1")
	}
	return strings.TrimSuffix(string(a.Verb)+"?"+values.Encode(), "?")
}

// actionOf reads what keyOf wrote.
func actionOf(key string) (state.NoticeAction, bool) {
	verb, query, _ := strings.Cut(key, "?")
	values, err := url.ParseQuery(query)
	if err != nil || verb == "" {
		return state.NoticeAction{}, false
	}
	return state.NoticeAction{
		Verb:  state.Verb(verb),
		Proxy: values.Get("proxy"), User: values.Get("user"), Request: values.Get("request"), Tunnel: values.Get("tunnel"),
		Confirm: values.Get("confirm") == "1",
	}, true
}
