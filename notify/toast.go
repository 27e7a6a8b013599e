package notify

import (
	"encoding/xml"
	"net/url"
	"strings"
)

// maxToastButtons is fewer than Windows allows, to leave the words room.
const maxToastButtons = 3

// The elements of a toast. What comes from others is text in all of them: the
// encoder escapes it.
type (
	toastXML struct {
		XMLName        xml.Name    `xml:"toast"`
		ActivationType string      `xml:"activationType,attr"`
		Launch         string      `xml:"launch,attr"`
		Scenario       string      `xml:"scenario,attr,omitempty"`
		Binding        bindingXML  `xml:"visual>binding"`
		Audio          *audioXML   `xml:"audio"`
		Actions        *actionsXML `xml:"actions"`
	}
	bindingXML struct {
		Template string   `xml:"template,attr"`
		Texts    []string `xml:"text"`
	}
	audioXML struct {
		Silent bool `xml:"silent,attr"`
	}
	actionsXML struct {
		Action []actionXML `xml:"action"`
	}
	actionXML struct {
		Content        string `xml:"content,attr"`
		Arguments      string `xml:"arguments,attr"`
		ActivationType string `xml:"activationType,attr"`
	}
)

// toast returns n, which is clean, as the XML that Windows wants.
func toast(n Notification) (string, error) {
	buttons, text := n.buttons(maxToastButtons)
	t := toastXML{ActivationType: "foreground", Launch: toastArguments(n.ID, "")}
	t.Binding.Template = "ToastGeneric"
	t.Binding.Texts = []string{n.Title}
	if n.Body != "" {
		t.Binding.Texts = append(t.Binding.Texts, n.Body)
	}
	if text != nil {
		t.Launch = toastArguments(n.ID, n.textKey())
	}
	if len(buttons) > 0 {
		t.Actions = &actionsXML{}
	}
	for _, a := range buttons {
		t.Actions.Action = append(t.Actions.Action, actionXML{a.Label, toastArguments(n.ID, a.Key), "foreground"})
	}
	switch {
	case n.Urgency >= UrgencyCritical && len(buttons) > 0:
		t.Scenario = "reminder" // stays, but only if there is a button
	case n.Urgency <= UrgencyLow:
		t.Audio = &audioXML{Silent: true}
	}
	out, err := xml.Marshal(t)
	return string(out), err
}

// toastArguments returns the string that Windows hands back when the button is
// pressed, to whichever berth process runs by then.
func toastArguments(id, key string) string {
	return "id=" + url.QueryEscape(id) + "&key=" + url.QueryEscape(key)
}

// toastClick takes apart what toastArguments has made. ok is false for what it
// has not made: any program can send arguments.
func toastClick(arguments string) (id, key string, ok bool) {
	if len(arguments) > 8*maxKey {
		return "", "", false
	}
	rest, isOurs := strings.CutPrefix(arguments, "id=")
	id, key, found := strings.Cut(rest, "&key=")
	if !isOurs || !found {
		return "", "", false
	}
	id, errID := url.QueryUnescape(id)
	key, errKey := url.QueryUnescape(key)
	if errID != nil || errKey != nil || checkKey(id) != nil || (key != "" && checkKey(key) != nil) {
		return "", "", false
	}
	return id, key, true
}
