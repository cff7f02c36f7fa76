"""The layout of the screens, in Textual's CSS. A string, as a file of another kind would have to be packaged apart."""

BASE_STYLE = "#d8d8d8 on #121212"
"""Of the lists and texts, which draw themselves: to ask Textual for it takes 0.4 ms, for each line of each frame."""

CSS = """
Screen { background: #121212; color: #d8d8d8; }
#where { height: 1; padding: 0 1; background: #005f5f; color: #ffffff; text-style: bold; }
#state { height: 1; padding: 0 1; color: #a8a8a8; }
#where, #state, #keys, #legend { text-wrap: nowrap; text-overflow: ellipsis; }
#status { height: auto; min-height: 1; max-height: 4; padding: 0 1; color: #d7d787; }
#keys { height: 1; padding: 0 1; background: #262626; color: #bcbcbc; }
#legend { height: 1; padding: 0 1; }
#prompt { height: 1; }
#purpose { width: auto; padding: 0 0 0 1; color: #ffffff; text-style: bold; }
#input { width: 1fr; background: #303030; }
ItemTable { height: 1fr; background: #121212; }
TextPane { height: 1fr; background: #121212; padding: 0 1; }
ItemTable, TextPane { scrollbar-background: #121212; scrollbar-color: #4e4e4e; }
ItemTable, TextPane { scrollbar-background-hover: #121212; scrollbar-color-hover: #4e4e4e; }
#both { height: 1fr; layout: vertical; }
#both ItemTable { height: 35%; min-height: 4; }
#both TextPane { border-top: solid #585858; }
#both TextPane:focus { border-top: solid #00afaf; }
.-wide #both { layout: horizontal; }
.-wide #both ItemTable { width: 50%; height: 100%; }
.-wide #both TextPane { border-top: none; border-left: solid #585858; }
.-wide #both TextPane:focus { border-top: none; border-left: solid #00afaf; }
HelpScreen TextPane { margin: 1 3; border: round #00afaf; }
"""
