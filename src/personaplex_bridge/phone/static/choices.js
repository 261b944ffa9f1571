// Who the model is to be: the fields of a form, filled from GET /phone/options and from what stands
// behind the # of the page's address.

export class Choices {
  constructor(form) {
    this.form = form;
    this.fields = form.elements;
    this.personas = [];
    form.addEventListener("input", () => this.#describe());
  }

  // The options, for what else is in them.
  async load() {
    const answer = await fetch("/phone/options");
    if (!answer.ok) throw new Error(`the bridge answers ${answer.status}`);
    const options = await answer.json();
    const { persona, voice, text_prompt: prompt } = this.fields;
    this.personas = options.personas;
    for (const { name, experimental } of options.personas) {
      persona.add(new Option(experimental ? `${name} (experimental)` : name, name));
    }
    voice.add(new Option("The persona's own", ""));
    for (const name of options.voices) voice.add(new Option(voiceInWords(name), name));
    prompt.maxLength = options.max_prompt_chars;
    persona.value = options.default;
    this.#fillInFromAddress();
    this.#describe();
    return options;
  }

  // Those filled in, by name.
  get wanted() {
    return Object.fromEntries([...new FormData(this.form)].filter(([, value]) => value !== ""));
  }

  get inWords() {
    const { persona, voice, text_prompt: prompt } = this.wanted;
    return [persona, voice && `voice ${voice}`, prompt && "a prompt of my own"].filter(Boolean).join(", ");
  }

  // #persona=…&voice=…&text_prompt=…: what is behind the # never leaves the browser.
  #fillInFromAddress() {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      const field = this.fields.namedItem(name);
      if (!field) continue;
      if (field.type === "checkbox") {
        field.checked = field.value === value;
        continue;
      }
      const before = field.value;
      field.value = value;
      if (field.value === "" && value !== "") field.value = before; // no such option
      if (name === "text_prompt" && value !== "") field.closest("details").open = true;
    }
  }

  #describe() {
    const { persona, text_prompt: prompt } = this.fields;
    const chosen = this.personas.find(({ name }) => name === persona.value);
    if (!chosen) return;
    const describe = (field, text) => {
      document.getElementById(field.getAttribute("aria-describedby")).textContent = text;
    };
    describe(persona, `${chosen.description || chosen.name}. Voice ${chosen.voice}.`);
    prompt.placeholder = chosen.text_prompt;
    const left = prompt.maxLength - prompt.value.length;
    describe(prompt, `Empty: the persona's own. ${left} characters left.`);
  }
}

function voiceInWords(voice) {
  const kind = voice.startsWith("NAT") ? "natural" : "varied";
  return `${voice} (${voice[3] === "F" ? "female" : "male"}, ${kind})`;
}
