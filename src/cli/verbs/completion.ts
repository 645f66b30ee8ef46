// Owns: `weft completion SHELL`: three short scripts. All knowledge is in complete.ts; a script only carries words there and back.

import { UsageFailure } from "../failure.ts";
import type { Invocation } from "../verb.ts";

// `:files` as the only line means: complete file names yourself.
const scripts: Readonly<Record<string, string>> = {
  bash: `# weft completion for bash: source <(weft completion bash)
_weft() {
  local line words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == ":files" ]]; then
      compopt -o default 2>/dev/null
      return
    fi
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <("\${COMP_WORDS[0]}" __complete "\${words[@]}" 2>/dev/null)
  if [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == */ ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _weft weft
`,
  zsh: `#compdef weft
# weft completion for zsh: source <(weft completion zsh)
_weft() {
  local -a lines described
  local line
  lines=("\${(@f)$("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ \${lines[1]} == ":files" ]]; then
    _files
    return
  fi
  for line in "\${lines[@]}"; do
    [[ -n $line ]] && described+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  _describe -V weft described
}
if [[ \${funcstack[1]} == _weft ]]; then
  _weft "$@"
else
  compdef _weft weft
fi
`,
  fish: `# weft completion for fish: weft completion fish > ~/.config/fish/completions/weft.fish
function __weft_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l lines ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
  if test "$lines[1]" = ":files"
    __fish_complete_path (commandline -ct)
  else
    printf '%s\\n' $lines
  end
end
complete -c weft -f -a '(__weft_complete)'
`,
};

export async function run({ args, terminal }: Invocation): Promise<number> {
  const [shell] = args.operands as [string];
  const script = scripts[shell];
  if (script === undefined) throw new UsageFailure(`weft completion knows bash, zsh and fish, not "${shell}"`);
  terminal.out(script);
  return 0;
}
